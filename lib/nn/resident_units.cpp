#include "lib/nn/resident_units.hpp"

#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

at::Tensor view_of(const UnitLayout& unit, const at::Tensor& flat, ParameterKind kind) {
  for (const Parameter& p : unit.parameters)
    if (p.kind == kind) return flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
  return {};
}

HeadTensors head_tensors(const UnitLayout& unit, const at::Tensor& flat) {
  HeadTensors head;
  for (const Parameter& p : unit.parameters) {
    const at::Tensor view = flat.narrow(0, p.offset, p.num_elements()).view(p.shape);
    if (p.kind == ParameterKind::kFinalNorm) {
      head.norm_D = view;
    } else if (p.kind == ParameterKind::kFinalNormBias) {
      head.norm_bias_D = view;
    } else {  // the head, the score, or the embedding that is also the head
      head.head_VD = view;
    }
  }
  return head;
}

ResidentUnits::ResidentUnits(const ModelConfig& config, const std::vector<at::Tensor>& units) : ModelUnits(config) {
  const std::vector<UnitLayout> layouts = unit_layouts(config);
  check(units.size() == layouts.size(), "all units of the model are given");
  parameters_.embedding_VD = view_of(layouts.front(), units.front(), ParameterKind::kEmbedding);
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    parameters_.blocks.emplace_back(block_tensors(layouts[layer + 1], units[layer + 1]));
  parameters_.head =
      config.shares_head() ? head_tensors(layouts.front(), units.front()) : head_tensors(layouts.back(), units.back());
}

ResidentUnits::ResidentUnits(const ModelConfig& config, Parameters parameters)
    : ModelUnits(config), parameters_(std::move(parameters)) {
  check(std::ssize(parameters_.blocks) == config.num_layers, "all blocks of the model are given");
}

}  // namespace plumb
