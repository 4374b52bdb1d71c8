// Views of a unit's parameters for block.hpp, and the shapes that a family fixes.
#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/nn/block.hpp"

namespace plumb {

AttentionShape attention_shape(const ModelConfig& config, int64_t layer, const at::Tensor& sinks_H) {
  return {.num_heads = config.num_heads,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .sliding_window = config.sliding_window[layer],
          .score_scale = config.score_scale,
          .score_cap = config.score_cap,
          .sinks_H = sinks_H.defined() ? sinks_H.const_data_ptr<float>() : nullptr};
}

ExpertConfig expert_config(const MixtureConfig& mixture) {
  ExpertConfig config;
  config.router = {mixture.num_experts, mixture.num_chosen, mixture.renormalizes, mixture.rounds_weights};
  config.is_interleaved = mixture.is_gpt_oss;
  if (mixture.is_gpt_oss)
    config.clamp = ClampedSwiglu{static_cast<float>(mixture.swiglu_limit), static_cast<float>(mixture.swiglu_alpha)};
  return config;
}

HeadNorms head_norms(const ModelConfig& config, const BlockParameters& p) {
  return {p.q_norm_K, p.k_norm_K, config.num_heads, config.num_kv_heads, config.head_dim, config.norm};
}

BlockContext::BlockContext(const ModelConfig& model_config, ModelRope& rope, const Documents& batch_documents,
                           at::Tensor rows_read)
    : config(model_config),
      documents(batch_documents),
      rotations(rope.of_documents(batch_documents)),
      read_rows(std::move(rows_read)),
      num_tokens(batch_documents.begin.back()) {
  const auto& prefixes = batch_documents.prefix_length;
  const bool has_shared = std::any_of(prefixes.begin(), prefixes.end(), [](int64_t prefix) { return prefix > 0; });
  check(!has_shared || !config.rope_depends_on_length(),
        "documents share no prefix where its rotation depends on their lengths");
}

BlockParameters::BlockParameters(const BlockTensors& t) : norms(t.norms), q_norm_K(t.q_norm_K), k_norm_K(t.k_norm_K) {
  linear = {Linear{t.qkv_QD, t.qkv_bias_Q, {}, {}}, Linear{t.o_DO, t.o_bias_D, {}, {}},
            Linear{t.gate_up_ED, t.gate_up_bias_E, {}, {}}, Linear{t.down_DF, t.down_bias_D, {}, {}}};
  if (t.sinks_H.defined()) sinks_H = t.sinks_H.to(at::kFloat);
  if (t.experts.router_ED.defined()) experts.emplace(t.experts);
}

Linear& BlockParameters::linear_of(Product product, int64_t expert) {
  if (expert >= 0) {
    Expert& of_one = experts->experts[expert];
    return product == Product::kGateUp ? of_one.gate_up : of_one.down;
  }
  if (product == Product::kSharedGateUp) return experts->shared->expert.gate_up;
  if (product == Product::kSharedDown) return experts->shared->expert.down;
  return linear[product];
}

BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat) {
  using enum ParameterKind;
  // the parameters of these kinds that the unit has; several are adjacent and form one tensor
  const auto view = [&](std::initializer_list<ParameterKind> kinds) {
    std::vector<int64_t> shape;
    int64_t offset = 0, num_elements = 0;
    for (const Parameter& p : unit.parameters) {
      if (std::find(kinds.begin(), kinds.end(), p.kind) == kinds.end()) continue;
      if (shape.empty()) {
        offset = p.offset;
        shape = p.shape;
      } else {
        shape[0] += p.shape[0];
      }
      num_elements += p.num_elements();
    }
    return shape.empty() ? at::Tensor() : flat.narrow(0, offset, num_elements).view(shape);
  };
  BlockTensors t;
  t.norms[BlockNorm::kBeforeAttention] = {view({kInputNorm}), view({kInputNormBias})};
  t.norms[BlockNorm::kAfterAttention] = {view({kAttentionOutNorm}), {}};
  t.norms[BlockNorm::kBeforeFeedForward] = {view({kPostNorm}), view({kPostNormBias})};
  t.norms[BlockNorm::kAfterFeedForward] = {view({kFeedForwardOutNorm}), {}};
  t.qkv_QD = view({kQ, kK, kV, kQkv});
  t.qkv_bias_Q = view({kQBias, kKBias, kVBias});
  t.q_norm_K = view({kQNorm});
  t.k_norm_K = view({kKNorm});
  t.o_DO = view({kO});
  t.o_bias_D = view({kOBias});
  t.gate_up_ED = view({kGate, kUp, kGateUp});
  t.gate_up_bias_E = view({kGateBias, kUpBias});
  t.down_DF = view({kDown});
  t.down_bias_D = view({kDownBias});
  t.sinks_H = view({kSinks});
  t.experts.router_ED = view({kRouter});
  t.experts.router_bias_E = view({kRouterBias});
  if (!t.experts.router_ED.defined()) return t;
  const int64_t num_experts = t.experts.router_ED.size(0);
  const auto of_experts = [&](const at::Tensor& rows) {
    return rows.defined() ? rows.view({num_experts, rows.size(0) / num_experts, rows.size(1)}) : rows;
  };
  const auto transposed = [](const at::Tensor& x) { return x.defined() ? x.transpose(1, 2) : x; };
  const at::Tensor fused = view({kExpertsGateUp});
  t.experts.gate_up_EGD = fused.defined() ? transposed(fused) : of_experts(view({kExpertGate, kExpertUp}));
  t.experts.down_EDF = fused.defined() ? transposed(view({kExpertsDown})) : of_experts(view({kExpertDown}));
  t.experts.gate_up_bias_EG = view({kExpertsGateUpBias});
  t.experts.down_bias_ED = view({kExpertsDownBias});
  t.experts.shared_router_1D = view({kSharedRouter});
  t.experts.shared_gate_up_UD = view({kSharedGate, kSharedUp});
  t.experts.shared_down_DS = view({kSharedDown});
  return t;
}

}  // namespace plumb
