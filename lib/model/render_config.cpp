// render_model_config(): keys in the spellings of transformers 4 and 5.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"
#include "lib/model/families.hpp"
#include "lib/model/mixture_config.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/rope_config.hpp"

namespace plumb {

using nlohmann::json;

namespace {

void render_sliding_window(const ModelConfig& config, const FamilyTraits& traits, json& object) {
  int64_t window = 0;
  json types = json::array();
  for (int64_t layer_window : config.sliding_window) {
    window = std::max(window, layer_window);
    types.push_back(layer_window > 0 ? "sliding_attention" : "full_attention");
  }
  for (int64_t layer_window : config.sliding_window)
    check(layer_window == 0 || layer_window == window, "all sliding layers of a config share one window");
  if (traits.window == WindowRule::kNone) return;
  object["sliding_window"] = window > 0 ? json(window) : json();
  if (window == 0 && traits.window == WindowRule::kPattern) object["sliding_window"] = traits.sliding_window;
  if (traits.window == WindowRule::kQwen3Moe) object["use_sliding_window"] = window > 0;
  const bool are_alike = traits.window == WindowRule::kAll || traits.window == WindowRule::kQwen3Moe;
  if (are_alike && config.family != Family::kMinistral) {
    check(std::count(config.sliding_window.begin(), config.sliding_window.end(), window) == config.num_layers,
          "all layers of this family slide, or none");
    return;
  }
  object["layer_types"] = std::move(types);
  const bool is_qwen = traits.window == WindowRule::kQwen || traits.window == WindowRule::kQwen2Moe;
  if (is_qwen || traits.window == WindowRule::kUnrotated) object["use_sliding_window"] = window > 0;
  if (is_qwen) object["max_window_layers"] = config.num_layers;  // layer_types overrides it
}

void render_biases(const ModelConfig& config, const FamilyTraits& traits, json& object) {
  if (traits.bias == BiasRule::kAttentionBias || traits.bias == BiasRule::kAttentionBiasOn)
    object["attention_bias"] = config.has_o_bias;
  if (traits.bias == BiasRule::kQkvBias) object["qkv_bias"] = config.has_qkv_bias;
  if (traits.bias == BiasRule::kAttentionBiasQkv) object["attention_bias"] = config.has_qkv_bias;
  if (traits.bias == BiasRule::kUseBias) object["use_bias"] = config.has_qkv_bias;
  if (traits.has_mlp_bias_key) object["mlp_bias"] = config.has_mlp_bias;
}

/// The number whose reciprocal is `scale`, to the bit.
double divisor(double scale) {
  const double quotient = 1 / scale;
  for (const double candidate :
       {std::round(quotient), quotient, std::nextafter(quotient, 0.0), std::nextafter(quotient, 1e300)})
    if (1 / candidate == scale) return candidate;
  return quotient;
}

void render_multipliers(const ModelConfig& config, json& object) {
  const auto cap = [](double value) { return value > 0 ? json(value) : json(); };
  switch (config.family) {
    case Family::kGemma2:
    case Family::kGemma3:
      object["query_pre_attn_scalar"] = std::llround(1 / (config.score_scale * config.score_scale));
      object["attn_logit_softcapping"] = cap(config.score_cap);
      object["final_logit_softcapping"] = cap(config.logits.cap);
      break;
    case Family::kGranite:
      object["attention_multiplier"] = config.score_scale;
      object["embedding_multiplier"] = config.embedding_multiplier;
      object["residual_multiplier"] = config.residual_multiplier;
      object["logits_scaling"] = divisor(config.logits.scale);
      break;
    case Family::kCohere2:
      object["logit_scale"] = config.logits.scale;
      break;
    default:
      break;
  }
}

void render_unrotated(const ModelConfig& config, json& object) {
  if (config.family != Family::kSmolLm3) return;
  json flags = json::array();
  for (int64_t layer = 0; layer < config.num_layers; ++layer) flags.push_back(config.rope_of(layer) ? 1 : 0);
  object["no_rope_layers"] = std::move(flags);
}

}  // namespace

std::string render_model_config(const ModelConfig& config, std::string_view dtype) {
  const FamilyTraits& traits = traits_of(config.family);
  const bool has_score = config.head == HeadKind::kScore;
  json object = {
      {"architectures", json::array({has_score ? traits.classifier_class : traits.causal_class})},
      {"attention_dropout", 0.0},
      {"bos_token_id", config.bos_token_id < 0 ? json() : json(config.bos_token_id)},
      {"dtype", dtype},
      {"eos_token_id", json(config.eos_token_ids)},
      {"head_dim", config.head_dim},
      {"hidden_size", config.hidden_size},
      {"initializer_range", config.initializer_range},
      {"intermediate_size", config.intermediate_size},
      {"max_position_embeddings", config.max_position_embeddings},
      {"model_type", traits.model_type},
      {"num_attention_heads", config.num_heads},
      {"num_hidden_layers", config.num_layers},
      {"num_key_value_heads", config.num_kv_heads},
      {traits.epsilon_key, config.norm.epsilon},
      {"tie_word_embeddings", config.ties_embeddings},
      {"use_cache", true},
      {"vocab_size", config.vocab_size},
  };
  object[config.feed_forward == FeedForward::kGeGlu ? "hidden_activation" : "hidden_act"] =
      config.feed_forward == FeedForward::kSwiGlu ? "silu" : "gelu_pytorch_tanh";
  if (config.eos_token_ids.size() < 2)
    object["eos_token_id"] = config.eos_token_ids.empty() ? json() : json(config.eos_token_ids[0]);
  if (config.pad_token_id >= 0)
    object["pad_token_id"] = config.pad_token_id;
  else if (traits.pad_token_id >= 0)
    object["pad_token_id"] = nullptr;
  if (has_score) {  // one label; the default in transformers would be two
    object["id2label"] = {{"0", "LABEL_0"}};
    object["label2id"] = {{"LABEL_0", 0}};
  }
  render_rope(config, traits, object);
  render_biases(config, traits, object);
  render_multipliers(config, object);
  render_mixture(config, traits, object);
  render_unrotated(config, object);
  render_sliding_window(config, traits, object);
  return object.dump(2) + "\n";
}

}  // namespace plumb
