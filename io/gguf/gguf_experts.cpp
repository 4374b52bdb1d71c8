#include "io/gguf/gguf_experts.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

using enum ParameterKind;

struct ExpertName {
  const char* name;
  ParameterKind kind;        // of each expert, or of all
  GgufTensor::Outputs part;  // of one parameter for all experts
};

constexpr ExpertName kOfEach[] = {
    {"blk.{}.ffn_gate_exps.weight", kExpertGate, {}},
    {"blk.{}.ffn_up_exps.weight", kExpertUp, {}},
    {"blk.{}.ffn_down_exps.weight", kExpertDown, {}},
};
constexpr ExpertName kOfAll[] = {
    {"blk.{}.ffn_gate_exps.weight", kExpertsGateUp, {0, 2}}, {"blk.{}.ffn_up_exps.weight", kExpertsGateUp, {1, 2}},
    {"blk.{}.ffn_down_exps.weight", kExpertsDown, {0, 1}},   {"blk.{}.ffn_gate_exps.bias", kExpertsGateUpBias, {0, 2}},
    {"blk.{}.ffn_up_exps.bias", kExpertsGateUpBias, {1, 2}}, {"blk.{}.ffn_down_exps.bias", kExpertsDownBias, {0, 1}},
};

/// [experts, out, in] of one parameter for all experts, [experts, in, out]; a bias has no `in`.
std::vector<int64_t> transposed_shape(const std::vector<int64_t>& shape, const GgufTensor::Outputs& part) {
  std::vector<int64_t> result = {shape.front(), shape.back() / part.step};
  if (shape.size() == 3) result.push_back(shape[1]);
  return result;
}

}  // namespace

bool is_of_experts(const Parameter& parameter) {
  const auto is_its = [&](const ExpertName& name) { return name.kind == parameter.kind; };
  return std::any_of(std::begin(kOfEach), std::end(kOfEach), is_its) ||
         std::any_of(std::begin(kOfAll), std::end(kOfAll), is_its);
}

std::vector<GgufTensor> expert_tensors(const ModelConfig& config, const UnitLayout& layout, size_t unit,
                                       GgufNumber number) {
  std::vector<GgufTensor> tensors;
  const auto add = [&](const ExpertName& name) {
    GgufTensor tensor{.info = {}, .unit = unit, .outputs = name.part};
    for (size_t i = 0; i < layout.parameters.size(); ++i)
      if (layout.parameters[i].kind == name.kind) tensor.parameters.push_back(i);
    if (tensor.parameters.empty()) return;
    std::sort(tensor.parameters.begin(), tensor.parameters.end(),
              [&](size_t a, size_t b) { return layout.parameters[a].expert < layout.parameters[b].expert; });
    const Parameter& first = layout.parameters[tensor.parameters.front()];
    tensor.info.name = fmt::format(fmt::runtime(name.name), first.layer);
    if (first.expert < 0) {
      tensor.info.shape = transposed_shape(first.shape, name.part);
    } else {
      check(std::ssize(tensor.parameters) == config.mixture.num_experts, "every expert has its matrices");
      tensor.info.shape = {config.mixture.num_experts, first.shape[0], first.shape[1]};
    }
    if (tensor.info.shape.size() == 3) tensor.info.number = number;
    tensors.push_back(std::move(tensor));
  };
  std::for_each(std::begin(kOfEach), std::end(kOfEach), add);
  std::for_each(std::begin(kOfAll), std::end(kOfAll), add);
  return tensors;
}

std::string_view refused_experts(const ModelConfig& config) {
  const MixtureConfig& mixture = config.mixture;
  if (mixture.num_experts == 0) return "";
  if (std::count(mixture.is_dense.begin(), mixture.is_dense.end(), true) > 0)
    return "experts in every layer, as llama.cpp has them for this family; got layers without";
  if (config.family == Family::kQwen2Moe && mixture.renormalizes)
    return "norm_topk_prob false, as llama.cpp has it for this family; got true";
  if (config.family == Family::kQwen3Moe && !mixture.renormalizes)
    return "norm_topk_prob true, as llama.cpp has it for this family; got false";
  if (mixture.is_gpt_oss && (mixture.swiglu_limit != 7 || mixture.swiglu_alpha != 1.702))
    return "a swiglu_limit of 7, as llama.cpp has it; got another one";
  return "";
}

std::vector<std::pair<const char*, int64_t>> expert_counts(const ModelConfig& config) {
  const MixtureConfig& mixture = config.mixture;
  if (mixture.num_experts == 0) return {};
  std::vector<std::pair<const char*, int64_t>> counts = {{"expert_count", mixture.num_experts},
                                                         {"expert_used_count", mixture.num_chosen},
                                                         {"expert_feed_forward_length", mixture.expert_size}};
  if (mixture.shared_expert_size > 0)
    counts.emplace_back("expert_shared_feed_forward_length", mixture.shared_expert_size);
  return counts;
}

}  // namespace plumb
