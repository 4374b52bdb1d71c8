#include "io/huggingface/parameter_names.hpp"

#include <fmt/format.h>

#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// The name after "model.layers.{}.", and that of its expert, of a parameter of a block. Norms have other names in each
/// kind of placement.
std::string_view block_name(ParameterKind kind, Naming naming) {
  const bool is_glm = naming == Naming::kGlm, is_star = naming == Naming::kStarCoder;
  const bool is_mixtral = naming == Naming::kMixtral;
  switch (kind) {
    using enum ParameterKind;
    case kInputNorm:
      return "input_layernorm.weight";
    case kInputNormBias:
      return "input_layernorm.bias";
    case kAttentionOutNorm:
      return is_glm ? "post_self_attn_layernorm.weight" : "post_attention_layernorm.weight";
    case kPostNorm:
      return naming == Naming::kGemma ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
    case kPostNormBias:
      return "post_attention_layernorm.bias";
    case kFeedForwardOutNorm:
      return is_glm ? "post_mlp_layernorm.weight" : "post_feedforward_layernorm.weight";
    case kQ:
      return "self_attn.q_proj.weight";
    case kK:
      return "self_attn.k_proj.weight";
    case kV:
      return "self_attn.v_proj.weight";
    case kQkv:
      return "self_attn.qkv_proj.weight";
    case kQBias:
      return "self_attn.q_proj.bias";
    case kKBias:
      return "self_attn.k_proj.bias";
    case kVBias:
      return "self_attn.v_proj.bias";
    case kQNorm:
      return "self_attn.q_norm.weight";
    case kKNorm:
      return "self_attn.k_norm.weight";
    case kO:
      return "self_attn.o_proj.weight";
    case kOBias:
      return "self_attn.o_proj.bias";
    case kGate:
      return "mlp.gate_proj.weight";
    case kGateBias:
      return "mlp.gate_proj.bias";
    case kUp:
      return is_star ? "mlp.c_fc.weight" : "mlp.up_proj.weight";
    case kUpBias:
      return is_star ? "mlp.c_fc.bias" : "mlp.up_proj.bias";
    case kGateUp:
      return "mlp.gate_up_proj.weight";
    case kDown:
      return is_star ? "mlp.c_proj.weight" : "mlp.down_proj.weight";
    case kDownBias:
      return is_star ? "mlp.c_proj.bias" : "mlp.down_proj.bias";
    case kSinks:
      return "self_attn.sinks";
    case kExpertsGateUp:
      return "mlp.experts.gate_up_proj";
    case kExpertsGateUpBias:
      return "mlp.experts.gate_up_proj_bias";
    case kExpertsDown:
      return "mlp.experts.down_proj";
    case kExpertsDownBias:
      return "mlp.experts.down_proj_bias";
    case kSharedGate:
      return "mlp.shared_expert.gate_proj.weight";
    case kSharedUp:
      return "mlp.shared_expert.up_proj.weight";
    case kSharedDown:
      return "mlp.shared_expert.down_proj.weight";
    case kSharedRouter:
      return "mlp.shared_expert_gate.weight";
    case kRouterBias:
      return "mlp.router.bias";
    case kRouter:
      if (naming == Naming::kGptOss) return "mlp.router.weight";
      return is_mixtral ? "block_sparse_moe.gate.weight" : "mlp.gate.weight";
    case kExpertGate:
      return is_mixtral ? "w1.weight" : "gate_proj.weight";
    case kExpertUp:
      return is_mixtral ? "w3.weight" : "up_proj.weight";
    case kExpertDown:
      return is_mixtral ? "w2.weight" : "down_proj.weight";
    default:
      check(false, "every parameter has a name");
  }
  return {};
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
