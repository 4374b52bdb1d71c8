#include "lib/model/parameters.hpp"

namespace plumb {

namespace {

/// Appends parameters to a unit; those of one `fused` call are adjacent without gaps.
struct UnitBuilder {
  UnitLayout unit;
  Naming naming;
  int64_t layer = -1;

  struct Entry {
    ParameterKind kind;
    std::vector<int64_t> shape;
    int64_t expert = -1;
  };
  void fused(const std::vector<Entry>& entries) {
    unit.num_elements = (unit.num_elements + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
    for (const Entry& entry : entries) {
      unit.parameters.push_back(
          {entry.kind, layer, entry.shape, unit.num_elements, AdapterPart::kWhole, naming, entry.expert});
      unit.num_elements += unit.parameters.back().num_elements();
    }
  }
};

void append_attention(const ModelConfig& config, UnitBuilder& block) {
  using enum ParameterKind;
  const int64_t d = config.hidden_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  if (config.has_fused_qkv) {
    block.fused({{kQkv, {q + 2 * kv, d}}});
  } else {
    block.fused({{kQ, {q, d}}, {kK, {kv, d}}, {kV, {kv, d}}});
  }
  if (config.has_qkv_bias) block.fused({{kQBias, {q}}, {kKBias, {kv}}, {kVBias, {kv}}});
  if (config.qk_norm != QkNorm::kNone) {
    const bool is_whole = config.qk_norm == QkNorm::kAllHeads;
    block.fused({{kQNorm, {is_whole ? q : config.head_dim}}});
    block.fused({{kKNorm, {is_whole ? kv : config.head_dim}}});
  }
  block.fused({{kO, {d, q}}});
  if (config.has_o_bias) block.fused({{kOBias, {d}}});
  if (config.has_sinks) block.fused({{kSinks, {config.num_heads}}});
}

void append_feed_forward(const ModelConfig& config, UnitBuilder& block) {
  using enum ParameterKind;
  const int64_t d = config.hidden_size, ffn = config.intermediate_size;
  if (config.has_fused_gate_up) {
    block.fused({{kGateUp, {2 * ffn, d}}});
  } else if (config.has_gate()) {
    block.fused({{kGate, {ffn, d}}, {kUp, {ffn, d}}});
  } else {
    block.fused({{kUp, {ffn, d}}});
  }
  if (config.has_mlp_bias && config.has_gate()) {
    block.fused({{kGateBias, {ffn}}, {kUpBias, {ffn}}});
  } else if (config.has_mlp_bias) {
    block.fused({{kUpBias, {ffn}}});
  }
  block.fused({{kDown, {d, ffn}}});
  if (config.has_mlp_bias) block.fused({{kDownBias, {d}}});
}

void append_experts(const ModelConfig& config, UnitBuilder& block) {
  using enum ParameterKind;
  const MixtureConfig& mixture = config.mixture;
  const int64_t d = config.hidden_size, size = mixture.expert_size, count = mixture.num_experts;
  block.fused({{kRouter, {count, d}}});
  if (mixture.is_gpt_oss) {
    block.fused({{kRouterBias, {count}}});
    block.fused({{kExpertsGateUp, {count, d, 2 * size}}});
    block.fused({{kExpertsGateUpBias, {count, 2 * size}}});
    block.fused({{kExpertsDown, {count, size, d}}});
    block.fused({{kExpertsDownBias, {count, d}}});
    return;
  }
  std::vector<UnitBuilder::Entry> gate_up, down;
  for (int64_t e = 0; e < count; ++e) {
    gate_up.push_back({kExpertGate, {size, d}, e});
    gate_up.push_back({kExpertUp, {size, d}, e});
    down.push_back({kExpertDown, {d, size}, e});
  }
  block.fused(gate_up);
  block.fused(down);
  if (const int64_t shared = mixture.shared_expert_size; shared > 0) {
    block.fused({{kSharedGate, {shared, d}}, {kSharedUp, {shared, d}}});
    block.fused({{kSharedDown, {d, shared}}});
    block.fused({{kSharedRouter, {1, d}}});
  }
}

UnitLayout block_layout(const ModelConfig& config, int64_t layer) {
  using enum ParameterKind;
  const std::vector<int64_t> width = {config.hidden_size};
  const NormPlacement placement = config.norm_placement;
  const bool has_inner = placement != NormPlacement::kAfter;  // before attention, and before the feed-forward network
  const bool has_outer = placement == NormPlacement::kAfter || placement == NormPlacement::kAround;
  UnitBuilder block{{"block." + std::to_string(layer), {}, 0}, naming_of(config), layer};
  if (has_inner) block.fused({{kInputNorm, width}});
  if (has_inner && config.norm.has_bias) block.fused({{kInputNormBias, width}});
  append_attention(config, block);
  if (has_outer) block.fused({{kAttentionOutNorm, width}});
  if (has_inner && placement != NormPlacement::kParallel) {
    block.fused({{kPostNorm, width}});
    if (config.norm.has_bias) block.fused({{kPostNormBias, width}});
  }
  if (config.is_mixture(layer)) {
    append_experts(config, block);
  } else {
    append_feed_forward(config, block);
  }
  if (has_outer) block.fused({{kFeedForwardOutNorm, width}});
  return block.unit;
}

}  // namespace

Naming naming_of(const ModelConfig& config) {
  switch (config.family) {
    case Family::kGemma2:
    case Family::kGemma3:
      return Naming::kGemma;
    case Family::kGlm4:
      return Naming::kGlm;
    case Family::kStarCoder2:
      return Naming::kStarCoder;
    case Family::kMixtral:
      return Naming::kMixtral;
    case Family::kGptOss:
      return Naming::kGptOss;
    default:
      return Naming::kLlama;
  }
}

bool is_norm_weight(ParameterKind kind) {
  using enum ParameterKind;
  return kind == kInputNorm || kind == kPostNorm || kind == kFinalNorm || kind == kQNorm || kind == kKNorm ||
         kind == kAttentionOutNorm || kind == kFeedForwardOutNorm;
}

bool is_block_matrix(ParameterKind kind) {
  using enum ParameterKind;
  return kind == kQ || kind == kK || kind == kV || kind == kQkv || kind == kO || kind == kGate || kind == kUp ||
         kind == kGateUp || kind == kDown || is_expert_matrix(kind) || kind == kSharedGate || kind == kSharedUp ||
         kind == kSharedDown;
}

bool is_expert_matrix(ParameterKind kind) {
  using enum ParameterKind;
  return kind == kExpertGate || kind == kExpertUp || kind == kExpertDown;
}

bool Parameter::is_decayed() const {
  using enum ParameterKind;
  if (part == AdapterPart::kMagnitude || kind == kSinks) return true;
  return shape.size() > 1 && kind != kExpertsGateUpBias && kind != kExpertsDownBias;
}

std::vector<ParameterKind> block_matrices(const ModelConfig& config, int64_t layer) {
  std::vector<ParameterKind> kinds;
  for (const Parameter& parameter : block_layout(config, layer).parameters)
    if (is_block_matrix(parameter.kind) && parameter.expert < 0) kinds.push_back(parameter.kind);
  return kinds;
}

std::vector<UnitLayout> unit_layouts(const ModelConfig& config) {
  using enum ParameterKind;
  const int64_t d = config.hidden_size, vocab = config.vocab_size;
  std::vector<UnitLayout> units;
  UnitBuilder embedding{{config.shares_head() ? "embedding+head" : "embedding", {}, 0}, naming_of(config)};
  embedding.fused({{kEmbedding, {vocab, d}}});
  const auto append_final_norm = [&](UnitBuilder& unit) {
    unit.fused({{kFinalNorm, {d}}});
    if (config.norm.has_bias) unit.fused({{kFinalNormBias, {d}}});
  };
  if (config.shares_head()) append_final_norm(embedding);
  units.push_back(embedding.unit);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) units.push_back(block_layout(config, layer));
  if (!config.shares_head()) {
    UnitBuilder head{{"head", {}, 0}, naming_of(config)};
    append_final_norm(head);
    if (config.head == HeadKind::kScore) {
      head.fused({{kScore, {1, d}}});
    } else {
      head.fused({{kHead, {vocab, d}}});
    }
    units.push_back(head.unit);
  }
  return units;
}

int64_t num_parameters(const std::vector<UnitLayout>& units) {
  int64_t n = 0;
  for (const UnitLayout& unit : units)
    for (const Parameter& parameter : unit.parameters) n += parameter.num_elements();
  return n;
}

}  // namespace plumb
