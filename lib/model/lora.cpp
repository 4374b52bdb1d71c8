#include "lib/model/lora.hpp"

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

int64_t aligned(int64_t offset) {
  return (offset + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
}

/// The shape of a parameter outside the blocks.
std::vector<int64_t> whole_shape(const ModelConfig& config, ParameterKind kind) {
  if (kind == ParameterKind::kScore) return {1, config.hidden_size};
  check(kind == ParameterKind::kEmbedding || kind == ParameterKind::kHead,
        "an adapter trains embedding, head or score as they are");
  return {config.vocab_size, config.hidden_size};
}

}  // namespace

std::vector<int64_t> target_shape(const ModelConfig& config, ParameterKind kind) {
  const int64_t d = config.hidden_size, ffn = config.intermediate_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  switch (kind) {
    using enum ParameterKind;
    case kQ:
      return {q, d};
    case kK:
    case kV:
      return {kv, d};
    case kQkv:
      return {q + 2 * kv, d};
    case kO:
      return {d, q};
    case kGate:
    case kUp:
      return {ffn, d};
    case kGateUp:
      return {2 * ffn, d};
    case kDown:
      return {d, ffn};
    case kExpertsGateUp:
      return {2 * config.mixture.expert_size, d};
    case kExpertsDown:
      return {d, config.mixture.expert_size};
    case kSharedGate:
    case kSharedUp:
      return {config.mixture.shared_expert_size, d};
    case kSharedDown:
      return {d, config.mixture.shared_expert_size};
    case kEmbedding:
      return {d, config.vocab_size};
    case kHead:
      return {config.vocab_size, d};
    default:
      check(false, "only the matrices of a block, embedding and head are adapted");
  }
  return {};
}

Product product_of(ParameterKind kind) {
  switch (kind) {
    using enum ParameterKind;
    case kQ:
    case kK:
    case kV:
    case kQkv:
      return Product::kQkv;
    case kO:
      return Product::kO;
    case kGate:
    case kUp:
    case kGateUp:
    case kExpertGate:
    case kExpertUp:
    case kExpertsGateUp:
      return Product::kGateUp;
    case kSharedGate:
    case kSharedUp:
      return Product::kSharedGateUp;
    case kSharedDown:
      return Product::kSharedDown;
    default:
      return Product::kDown;
  }
}

bool is_of_experts(const LoraTarget& target) {
  return target.kind == ParameterKind::kExpertsGateUp || target.kind == ParameterKind::kExpertsDown;
}

UnitLayout adapter_layout(const ModelConfig& config, const Adapter& adapter) {
  UnitLayout unit{"adapter", {}, 0};
  const auto append = [&](ParameterKind kind, int64_t layer, std::vector<int64_t> shape, AdapterPart part) {
    unit.parameters.push_back({kind, layer, std::move(shape), unit.num_elements, part, naming_of(config)});
    unit.num_elements += unit.parameters.back().num_elements();
  };
  const auto append_aligned = [&](ParameterKind kind, int64_t layer, std::vector<int64_t> shape, AdapterPart part) {
    unit.num_elements = aligned(unit.num_elements);
    append(kind, layer, std::move(shape), part);
  };
  for (size_t begin = 0; begin < adapter.targets.size();) {
    const LoraTarget& first = adapter.targets[begin];
    size_t end = begin;
    while (end < adapter.targets.size() && adapter.targets[end].layer == first.layer &&
           product_of(adapter.targets[end].kind) == product_of(first.kind))
      ++end;
    unit.num_elements = aligned(unit.num_elements);
    for (size_t i = begin; i < end; ++i) {
      const LoraTarget& target = adapter.targets[i];
      append(target.kind, target.layer, {target.rank, target_shape(config, target.kind)[1]}, AdapterPart::kLoraA);
    }
    for (size_t i = begin; i < end; ++i) {
      const LoraTarget& target = adapter.targets[i];
      const int64_t out = target_shape(config, target.kind)[0];
      append_aligned(target.kind, target.layer, {out, target.rank}, AdapterPart::kLoraB);
      if (adapter.has_magnitudes) append_aligned(target.kind, target.layer, {out}, AdapterPart::kMagnitude);
    }
    begin = end;
  }
  for (const ParameterKind kind : adapter.whole)
    append_aligned(kind, -1, whole_shape(config, kind), AdapterPart::kWhole);
  for (const LoraTarget& target : adapter.outer_targets) {
    const std::vector<int64_t> shape = target_shape(config, target.kind);
    append_aligned(target.kind, -1, {target.rank, shape[1]}, AdapterPart::kLoraA);
    append_aligned(target.kind, -1, {shape[0], target.rank}, AdapterPart::kLoraB);
    if (adapter.has_magnitudes) append_aligned(target.kind, -1, {shape[0]}, AdapterPart::kMagnitude);
  }
  for (const AdapterRows& rows : adapter.rows)
    append_aligned(rows.kind, -1, {std::ssize(rows.tokens), config.hidden_size}, AdapterPart::kRows);
  return unit;
}

bool trains_embedding(const Adapter& adapter) {
  const auto is_embedding = [](ParameterKind kind) { return kind == ParameterKind::kEmbedding; };
  return std::any_of(adapter.whole.begin(), adapter.whole.end(), is_embedding) ||
         std::any_of(adapter.outer_targets.begin(), adapter.outer_targets.end(),
                     [&](const LoraTarget& target) { return is_embedding(target.kind); }) ||
         std::any_of(adapter.rows.begin(), adapter.rows.end(),
                     [&](const AdapterRows& rows) { return is_embedding(rows.kind); });
}

int64_t lowest_trained_layer(const ModelConfig& config, const Adapter& adapter) {
  if (trains_embedding(adapter)) return 0;
  return adapter.targets.empty() ? config.num_layers : adapter.targets.front().layer;
}

}  // namespace plumb
