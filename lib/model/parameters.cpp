#include "lib/model/parameters.hpp"

namespace plumb {

namespace {

/// Appends parameters to a unit; those of one `fused` call are adjacent without gaps.
struct UnitBuilder {
  UnitLayout unit;
  int64_t layer = -1;

  struct Entry {
    ParameterKind kind;
    std::vector<int64_t> shape;
  };
  void fused(const std::vector<Entry>& entries) {
    unit.num_elements = (unit.num_elements + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
    for (const Entry& entry : entries) {
      unit.parameters.push_back({entry.kind, layer, entry.shape, unit.num_elements});
      unit.num_elements += unit.parameters.back().num_elements();
    }
  }
};

UnitLayout block_layout(const ModelConfig& config, int64_t layer) {
  using enum ParameterKind;
  const int64_t d = config.hidden_size, ffn = config.intermediate_size;
  const int64_t q = config.num_heads * config.head_dim, kv = config.num_kv_heads * config.head_dim;
  UnitBuilder block{{"block." + std::to_string(layer), {}, 0}, layer};
  block.fused({{kInputNorm, {d}}});
  block.fused({{kQ, {q, d}}, {kK, {kv, d}}, {kV, {kv, d}}});
  if (config.has_qkv_bias) block.fused({{kQBias, {q}}, {kKBias, {kv}}, {kVBias, {kv}}});
  if (config.has_qk_norm) {
    block.fused({{kQNorm, {config.head_dim}}});
    block.fused({{kKNorm, {config.head_dim}}});
  }
  block.fused({{kO, {d, q}}});
  if (config.has_o_bias) block.fused({{kOBias, {d}}});
  block.fused({{kPostNorm, {d}}});
  block.fused({{kGate, {ffn, d}}, {kUp, {ffn, d}}});
  block.fused({{kDown, {d, ffn}}});
  return block.unit;
}

}  // namespace

bool is_block_matrix(ParameterKind kind) {
  using enum ParameterKind;
  return kind == kQ || kind == kK || kind == kV || kind == kO || kind == kGate || kind == kUp || kind == kDown;
}

std::vector<UnitLayout> unit_layouts(const ModelConfig& config) {
  using enum ParameterKind;
  const int64_t d = config.hidden_size, vocab = config.vocab_size;
  std::vector<UnitLayout> units;
  UnitBuilder embedding{{config.shares_head() ? "embedding+head" : "embedding", {}, 0}};
  embedding.fused({{kEmbedding, {vocab, d}}});
  if (config.shares_head()) embedding.fused({{kFinalNorm, {d}}});
  units.push_back(embedding.unit);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) units.push_back(block_layout(config, layer));
  if (!config.shares_head()) {
    UnitBuilder head{{"head", {}, 0}};
    head.fused({{kFinalNorm, {d}}});
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
