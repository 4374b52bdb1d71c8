#include "io/huggingface/parameter_names.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxListed = 5;

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

std::string list_some(const std::vector<std::string>& names) {
  const size_t num_listed = std::min(names.size(), kMaxListed);
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(num_listed), ", "));
  if (names.size() > num_listed) text += fmt::format(" and {} more", names.size() - num_listed);
  return text;
}

}  // namespace plumb
