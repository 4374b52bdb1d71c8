// A complete model in one process, from a Hugging Face directory, and its forward pass up to the last block.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <string>
#include <vector>

#include "io/huggingface/hf_model.hpp"
#include "lib/model/batch.hpp"
#include "lib/nn/resident_units.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

/// All units of a model in one dtype.
struct LoadedModel {
  ModelConfig config;
  std::vector<UnitLayout> layouts;
  std::vector<at::Tensor> units;

  LoadedModel(const std::string& directory, at::ScalarType dtype, const std::string& adapter = {}) {
    const HfModel source(directory, {.adapter = adapter});
    config = source.config();
    layouts = source.units();
    for (const UnitLayout& layout : layouts) {
      const at::Tensor unit = at::empty({layout.num_elements}, at::TensorOptions().dtype(at::kFloat));
      source.read_unit_range(layout, 0, layout.num_elements,
                             {unit.data_ptr<float>(), static_cast<size_t>(layout.num_elements)});
      units.push_back(unit.to(dtype));
    }
  }

  HeadTensors head() const { return ResidentUnits(config, units).acquire_head(); }
};

/// A micro-batch of these documents, with every token trained.
inline MicroBatch pack(const std::vector<std::vector<int64_t>>& documents) {
  MicroBatch batch;
  batch.document_begin = {0};
  for (const auto& document : documents) {
    batch.token_ids.insert(batch.token_ids.end(), document.begin(), document.end());
    batch.document_begin.push_back(batch.num_tokens());
  }
  batch.loss_mask.assign(batch.token_ids.size(), 1);
  return batch;
}

/// Output of the last block, [T, D].
inline at::Tensor hidden_states(const LoadedModel& model, const MicroBatch& batch) {
  ResidentUnits units(model.config, model.units);
  const BlockContext context(model.config, units.rope(), {batch.document_begin, batch.prefix_length});
  return walk_blocks(units, batch.token_ids,
                     [&](int64_t layer, const BlockParameters& parameters, const at::Tensor& x_TD) {
                       BlockActivations activations;
                       return block_forward(context, layer, parameters, x_TD, activations);
                     });
}

}  // namespace plumb
