#include "io/huggingface/parameter_names.hpp"

#include <fmt/format.h>

#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// The names in transformers, for all four families; {} is the layer.
std::string_view name_pattern(ParameterKind kind) {
  switch (kind) {
    using enum ParameterKind;
    case kEmbedding:
      return "model.embed_tokens.weight";
    case kInputNorm:
      return "model.layers.{}.input_layernorm.weight";
    case kQ:
      return "model.layers.{}.self_attn.q_proj.weight";
    case kK:
      return "model.layers.{}.self_attn.k_proj.weight";
    case kV:
      return "model.layers.{}.self_attn.v_proj.weight";
    case kQBias:
      return "model.layers.{}.self_attn.q_proj.bias";
    case kKBias:
      return "model.layers.{}.self_attn.k_proj.bias";
    case kVBias:
      return "model.layers.{}.self_attn.v_proj.bias";
    case kQNorm:
      return "model.layers.{}.self_attn.q_norm.weight";
    case kKNorm:
      return "model.layers.{}.self_attn.k_norm.weight";
    case kO:
      return "model.layers.{}.self_attn.o_proj.weight";
    case kOBias:
      return "model.layers.{}.self_attn.o_proj.bias";
    case kPostNorm:
      return "model.layers.{}.post_attention_layernorm.weight";
    case kGate:
      return "model.layers.{}.mlp.gate_proj.weight";
    case kUp:
      return "model.layers.{}.mlp.up_proj.weight";
    case kDown:
      return "model.layers.{}.mlp.down_proj.weight";
    case kFinalNorm:
      return "model.norm.weight";
    case kHead:
      return "lm_head.weight";
    case kScore:
      return "score.weight";
  }
  check(false, "every parameter has a name");
  return {};
}

}  // namespace

std::string hf_parameter_name(const Parameter& parameter) {
  return fmt::format(fmt::runtime(name_pattern(parameter.kind)), parameter.layer);
}

}  // namespace plumb
