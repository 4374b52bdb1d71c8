#include "io/huggingface/parameter_names.hpp"

#include <fmt/format.h>

#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// The name after "model.layers.{}." of a parameter of a block. Norms have other names in each kind of placement.
std::string_view block_name(ParameterKind kind, Naming naming) {
  const bool is_glm = naming == Naming::kGlm, is_star = naming == Naming::kStarCoder;
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
    default:
      check(false, "every parameter has a name");
  }
  return {};
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
      return fmt::format("model.layers.{}.{}", parameter.layer, block_name(parameter.kind, parameter.naming));
  }
}

}  // namespace plumb
