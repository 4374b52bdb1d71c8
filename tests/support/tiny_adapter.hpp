// Adapters on a frozen base of a small model: what several tests train, with values for any layout.
#pragma once

#include <algorithm>
#include <vector>

#include "lib/base/random.hpp"
#include "partition/adapted_model.hpp"
#include "tests/support/tiny_config.hpp"
#include "tests/support/tiny_training.hpp"

namespace plumb::test {

struct AdapterCase {
  const char* name;
  Adapter adapter;
  at::ScalarType dtype = at::kFloat;
  bool is_quantized = false;
  bool has_gradient_checkpointing = true;
  bool is_tied = false;
  bool has_experts = false;
};

inline Adapter all_linear(bool has_magnitudes, double dropout = 0, std::vector<ParameterKind> whole = {}) {
  using enum ParameterKind;
  Adapter adapter{{}, std::move(whole), has_magnitudes, dropout};
  for (int64_t layer = 0; layer < tiny_config(false).num_layers; ++layer)
    for (const ParameterKind kind : {kQ, kK, kV, kO, kGate, kUp, kDown})
      adapter.targets.push_back({kind, layer, kind == kUp ? 2 : 3, 1.5});
  return adapter;
}

inline bool is_matrix(const Parameter& p) { return p.layer >= 0 && p.shape.size() == 2; }

/// The value of an element of a base parameter, for any layout.
inline float base_value(const Parameter& p, int64_t index) {
  const double value = random_normal(9, static_cast<uint64_t>(p.kind) * 100 + static_cast<uint64_t>(p.layer + 1),
                                     static_cast<uint64_t>(index)) *
                       0.2;
  return static_cast<float>(p.shape.size() > 1 ? value : 1.0 + value);
}

inline void fill_base(const UnitLayout& layout, int64_t begin, int64_t end, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0f);
  for (const Parameter& p : layout.parameters)
    for (int64_t i = std::max(begin, p.offset); i < std::min(end, p.offset + p.num_elements()); ++i)
      out[i - begin] = base_value(p, i - p.offset);
}

inline std::vector<float> values_of(const Parameter& p) {
  std::vector<float> values;
  for (int64_t i = 0; i < p.num_elements(); ++i) values.push_back(base_value(p, i));
  return values;
}

inline FrozenSource frozen_source() {
  return {fill_base, [](const Parameter& p, std::span<std::byte> bytes) {
            nf4_quantize(values_of(p), nf4_layout(p.num_elements(), true), bytes);
          }};
}

inline std::optional<Nf4Format> quantized_matrices(const Parameter& p) {
  if (!is_matrix(p)) return std::nullopt;
  return Nf4Format{nf4_layout(p.num_elements(), true), Dtype::kF32};
}
inline std::optional<Nf4Format> nothing_quantized(const Parameter&) { return std::nullopt; }

inline void fill_adapter(const UnitLayout& layout, ElementRange range, std::span<float> out) {
  for (const Parameter& p : layout.parameters)
    for (int64_t i = std::max(range.begin, p.offset); i < std::min(range.end, p.offset + p.num_elements()); ++i)
      out[i - range.begin] = p.part == AdapterPart::kWhole || p.part == AdapterPart::kRows ? base_value(p, i - p.offset)
                             : p.part == AdapterPart::kMagnitude
                                 ? 1.0f
                                 : static_cast<float>(random_normal(11, 0, static_cast<uint64_t>(i)) * 0.1);
}

inline ModelConfig config_of(const AdapterCase& given) {
  ModelConfig config = tiny_config(given.is_tied);
  if (!given.has_experts) return config;
  config.mixture.num_experts = 4, config.mixture.num_chosen = 2, config.mixture.expert_size = 12;
  config.mixture.shared_expert_size = 10;
  return config;
}

/// As train(), of the adapter. Collective over comm.
inline Outcome train_adapter(const Communicator& comm, const AdapterCase& given, const TrainingRun& run = {}) {
  ModelConfig config = config_of(given);
  if (run.task == Task::kReward) config.head = HeadKind::kScore;
  EngineOptions options{.dtype = given.dtype, .has_gradient_checkpointing = given.has_gradient_checkpointing};
  options.accumulation_steps = kMicroBatches / comm.size();
  AdaptedModel model(config, given.adapter,
                     frozen_units(config, given.adapter, given.dtype == at::kFloat ? 4 : 2,
                                  given.is_quantized ? quantized_matrices : nothing_quantized),
                     comm, options, 5, run.placement);
  model.load_base(frozen_source());
  model.load_adapter([&](ElementRange range, std::span<float> out) { fill_adapter(model.unit().unit(), range, out); });
  comm.barrier();
  Outcome outcome;
  take_steps(model, comm, run, outcome);
  return outcome;
}

}  // namespace plumb::test
