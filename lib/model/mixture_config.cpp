#include "lib/model/mixture_config.hpp"

#include <algorithm>

#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxExperts = 10'000, kMaxExpertSize = 1'000'000, kMaxLayers = 10'000;
constexpr double kMaxCoefficient = 1e6;
constexpr const char* kNumExperts = "num_experts";
constexpr const char* kNumLocalExperts = "num_local_experts";
constexpr const char* kNumChosen = "num_experts_per_tok";

int64_t parse_num_experts(const ConfigReader& reader, const MixtureTraits& traits) {
  if (traits.rule == MixtureRule::kQwen2) return reader.integer_or(kNumExperts, 1, kMaxExperts, traits.num_experts);
  // two names of one number in transformers 5
  const int64_t local = reader.integer_or(kNumLocalExperts, 1, kMaxExperts, traits.num_experts);
  const int64_t number = reader.integer_or(kNumExperts, 1, kMaxExperts, local);
  if (reader.has(kNumExperts) && reader.has(kNumLocalExperts) && number != local)
    reader.fail(kNumExperts, fmt::format("the number of {}, {}", kNumLocalExperts, local));
  return number;
}

/// The layers without experts of the Qwen families; empty: none.
std::vector<bool> parse_dense_layers(const ConfigReader& reader, int64_t num_layers) {
  const int64_t step = reader.integer_or("decoder_sparse_step", 1, kMaxLayers, 1);
  std::vector<bool> is_dense(num_layers);
  for (int64_t layer = 0; layer < num_layers; ++layer) is_dense[layer] = (layer + 1) % step != 0;
  const char* key = "mlp_only_layers";
  if (!reader.is_null_or_absent(key)) {
    const json& layers = reader.object().at(key);
    if (!layers.is_array()) reader.fail(key, "an array of layers");
    for (const json& layer : layers) {
      if (!layer.is_number_integer() || layer < 0 || layer >= num_layers)
        reader.fail(key, fmt::format("an array of layers below num_hidden_layers {}", num_layers));
      is_dense[layer.get<int64_t>()] = true;
    }
  }
  const auto num_dense = std::count(is_dense.begin(), is_dense.end(), true);
  if (num_dense == num_layers) reader.fail(key, "at least one layer with experts, counting decoder_sparse_step");
  return num_dense == 0 ? std::vector<bool>() : is_dense;
}

}  // namespace

void parse_mixture(const ConfigReader& reader, const FamilyTraits& family, ModelConfig& config) {
  const MixtureTraits& traits = family.mixture;
  MixtureConfig& mixture = config.mixture;
  if (traits.rule == MixtureRule::kNone) return;
  mixture.num_experts = parse_num_experts(reader, traits);
  mixture.num_chosen = reader.integer_or(kNumChosen, 1, kMaxExperts, traits.num_chosen);
  if (mixture.num_chosen > mixture.num_experts)
    reader.fail(kNumChosen, fmt::format("at most the number of experts, {}", mixture.num_experts));
  mixture.expert_size = config.intermediate_size;
  mixture.loss_coefficient = reader.number_or("router_aux_loss_coef", 0, kMaxCoefficient, traits.loss_coefficient);
  mixture.rounds_weights = traits.rule != MixtureRule::kMixtral;
  switch (traits.rule) {
    case MixtureRule::kNone:
      break;
    case MixtureRule::kMixtral:
      if (reader.number_or("router_jitter_noise", 0, kMaxCoefficient, 0) != 0)
        reader.fail("router_jitter_noise", "0, as routing has no noise");
      break;
    case MixtureRule::kQwen2:
      mixture.shared_expert_size =
          reader.integer_or("shared_expert_intermediate_size", 1, kMaxExpertSize, traits.shared_expert_size);
      [[fallthrough]];
    case MixtureRule::kQwen3:
      mixture.expert_size = reader.integer_or("moe_intermediate_size", 1, kMaxExpertSize, traits.expert_size);
      mixture.renormalizes = reader.boolean_or("norm_topk_prob", false);
      mixture.is_dense = parse_dense_layers(reader, config.num_layers);
      break;
    case MixtureRule::kGptOss:
      mixture.is_gpt_oss = true;
      config.has_sinks = true;
      mixture.swiglu_limit = reader.number_or("swiglu_limit", 1e-6, 1e6, mixture.swiglu_limit);
      mixture.swiglu_alpha = reader.number_or("swiglu_alpha", 1e-6, 1e6, mixture.swiglu_alpha);
      if (reader.integer_or("experts_per_token", 1, kMaxExperts, mixture.num_chosen) != mixture.num_chosen)
        reader.fail("experts_per_token", fmt::format("the number of {}, {}", kNumChosen, mixture.num_chosen));
      break;
  }
}

void render_mixture(const ModelConfig& config, const FamilyTraits& family, json& object) {
  const MixtureConfig& mixture = config.mixture;
  const MixtureRule rule = family.mixture.rule;
  if (rule == MixtureRule::kNone) return;
  if (rule == MixtureRule::kQwen2 || rule == MixtureRule::kQwen3) object[kNumExperts] = mixture.num_experts;
  if (rule != MixtureRule::kQwen2) object[kNumLocalExperts] = mixture.num_experts;
  object[kNumChosen] = mixture.num_chosen;
  object["output_router_logits"] = false;
  object["router_aux_loss_coef"] = mixture.loss_coefficient;
  if (rule == MixtureRule::kQwen2) object["shared_expert_intermediate_size"] = mixture.shared_expert_size;
  if (rule == MixtureRule::kQwen2 || rule == MixtureRule::kQwen3) {
    object["moe_intermediate_size"] = mixture.expert_size;
    object["norm_topk_prob"] = mixture.renormalizes;
    object["decoder_sparse_step"] = 1;
    object["mlp_only_layers"] = json::array();
    for (int64_t layer = 0; layer < config.num_layers; ++layer)
      if (!config.is_mixture(layer)) object["mlp_only_layers"].push_back(layer);
  }
  if (rule == MixtureRule::kGptOss) {
    object["swiglu_alpha"] = mixture.swiglu_alpha;
    object["swiglu_limit"] = mixture.swiglu_limit;
  }
}

}  // namespace plumb
