#include "io/huggingface/parameter_names.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct BlockName {
  ParameterKind kind;
  std::string_view name;
};

/// Names after "model.layers.{}.", and those after the name of an expert.
constexpr BlockName kBlockNames[] = {
    {ParameterKind::kInputNorm, "input_layernorm.weight"},
    {ParameterKind::kInputNormBias, "input_layernorm.bias"},
    {ParameterKind::kAttentionOutNorm, "post_attention_layernorm.weight"},
    {ParameterKind::kPostNorm, "post_attention_layernorm.weight"},
    {ParameterKind::kPostNormBias, "post_attention_layernorm.bias"},
    {ParameterKind::kFeedForwardOutNorm, "post_feedforward_layernorm.weight"},
    {ParameterKind::kQ, "self_attn.q_proj.weight"},
    {ParameterKind::kK, "self_attn.k_proj.weight"},
    {ParameterKind::kV, "self_attn.v_proj.weight"},
    {ParameterKind::kQkv, "self_attn.qkv_proj.weight"},
    {ParameterKind::kQBias, "self_attn.q_proj.bias"},
    {ParameterKind::kKBias, "self_attn.k_proj.bias"},
    {ParameterKind::kVBias, "self_attn.v_proj.bias"},
    {ParameterKind::kQNorm, "self_attn.q_norm.weight"},
    {ParameterKind::kKNorm, "self_attn.k_norm.weight"},
    {ParameterKind::kO, "self_attn.o_proj.weight"},
    {ParameterKind::kOBias, "self_attn.o_proj.bias"},
    {ParameterKind::kGate, "mlp.gate_proj.weight"},
    {ParameterKind::kGateBias, "mlp.gate_proj.bias"},
    {ParameterKind::kUp, "mlp.up_proj.weight"},
    {ParameterKind::kUpBias, "mlp.up_proj.bias"},
    {ParameterKind::kGateUp, "mlp.gate_up_proj.weight"},
    {ParameterKind::kDown, "mlp.down_proj.weight"},
    {ParameterKind::kDownBias, "mlp.down_proj.bias"},
    {ParameterKind::kSinks, "self_attn.sinks"},
    {ParameterKind::kExpertsGateUp, "mlp.experts.gate_up_proj"},
    {ParameterKind::kExpertsGateUpBias, "mlp.experts.gate_up_proj_bias"},
    {ParameterKind::kExpertsDown, "mlp.experts.down_proj"},
    {ParameterKind::kExpertsDownBias, "mlp.experts.down_proj_bias"},
    {ParameterKind::kSharedGate, "mlp.shared_expert.gate_proj.weight"},
    {ParameterKind::kSharedUp, "mlp.shared_expert.up_proj.weight"},
    {ParameterKind::kSharedDown, "mlp.shared_expert.down_proj.weight"},
    {ParameterKind::kSharedRouter, "mlp.shared_expert_gate.weight"},
    {ParameterKind::kRouterBias, "mlp.router.bias"},
    {ParameterKind::kRouter, "mlp.gate.weight"},
    {ParameterKind::kExpertGate, "gate_proj.weight"},
    {ParameterKind::kExpertUp, "up_proj.weight"},
    {ParameterKind::kExpertDown, "down_proj.weight"},
};

/// The names in which a naming differs. Norms have other names in each kind of placement.
constexpr struct {
  Naming naming;
  BlockName of;
} kOtherNames[] = {
    {Naming::kGemma, {ParameterKind::kPostNorm, "pre_feedforward_layernorm.weight"}},
    {Naming::kGlm, {ParameterKind::kAttentionOutNorm, "post_self_attn_layernorm.weight"}},
    {Naming::kGlm, {ParameterKind::kFeedForwardOutNorm, "post_mlp_layernorm.weight"}},
    {Naming::kGptOss, {ParameterKind::kRouter, "mlp.router.weight"}},
    {Naming::kMixtral, {ParameterKind::kExpertDown, "w2.weight"}},
    {Naming::kMixtral, {ParameterKind::kExpertGate, "w1.weight"}},
    {Naming::kMixtral, {ParameterKind::kExpertUp, "w3.weight"}},
    {Naming::kMixtral, {ParameterKind::kRouter, "block_sparse_moe.gate.weight"}},
    {Naming::kStarCoder, {ParameterKind::kDown, "mlp.c_proj.weight"}},
    {Naming::kStarCoder, {ParameterKind::kDownBias, "mlp.c_proj.bias"}},
    {Naming::kStarCoder, {ParameterKind::kUp, "mlp.c_fc.weight"}},
    {Naming::kStarCoder, {ParameterKind::kUpBias, "mlp.c_fc.bias"}},
};

std::string_view block_name(ParameterKind kind, Naming naming) {
  for (const auto& other : kOtherNames)
    if (other.naming == naming && other.of.kind == kind) return other.of.name;
  const auto found = std::find_if(std::begin(kBlockNames), std::end(kBlockNames),
                                  [&](const BlockName& known) { return known.kind == kind; });
  check(found != std::end(kBlockNames), "every parameter has a name");
  return found->name;
}

std::string expert_prefix(const Parameter& p) {
  if (p.expert < 0) return "";
  return fmt::format("{}.experts.{}.", p.naming == Naming::kMixtral ? "block_sparse_moe" : "mlp", p.expert);
}

}  // namespace

std::string hf_parameter_name(const Parameter& parameter) {
  switch (parameter.kind) {
    using enum ParameterKind;
    case kEmbedding:
      return "model.embed_tokens.weight";
    case kFinalNorm:
      return "model.norm.weight";
    case kFinalNormBias:
      return "model.norm.bias";
    case kHead:
      return "lm_head.weight";
    case kScore:
      return "score.weight";
    default:
      return fmt::format("model.layers.{}.{}{}", parameter.layer, expert_prefix(parameter),
                         block_name(parameter.kind, parameter.naming));
  }
}

}  // namespace plumb
