#include "lib/model/model_config.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/config_keys.hpp"
#include "lib/model/families.hpp"
#include "lib/model/left_out.hpp"
#include "lib/model/mixture_config.hpp"
#include "lib/model/quantization_config.hpp"
#include "lib/model/rope_config.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxVocabSize = 10'000'000, kMaxHiddenSize = 1'000'000, kMaxIntermediateSize = 10'000'000;
constexpr int64_t kMaxLayers = 10'000, kMaxHeads = 10'000, kMaxHeadDim = 16'384, kMaxPositions = 1'000'000'000;
constexpr double kMaxParameters = 1e14;
constexpr double kMaxMultiplier = 1e6;
constexpr int64_t kDefaultMaxWindowLayers = 28;

const FamilyTraits& parse_family(const ConfigReader& reader) {
  std::string model_type = reader.string_or("model_type", "");
  if (model_type == "mistral" && reader.has("layer_types")) model_type = "ministral";  // as AutoConfig has it
  const FamilyTraits* traits = find_family(model_type);
  if (traits != nullptr) return *traits;
  const std::string_view reason = reason_left_out(model_type);
  const std::string note = reason.empty() ? "" : fmt::format(" ({} is not among them: {})", model_type, reason);
  reader.fail("model_type", fmt::format("one of {}{}", fmt::join(family_names(), ", "), note));
}

void refuse_unsupported(const ConfigReader& reader, const FamilyTraits& traits) {
  const bool is_gemma = traits.feed_forward == FeedForward::kGeGlu;
  const char* activation_key = is_gemma ? "hidden_activation" : "hidden_act";
  const char* activation = traits.feed_forward == FeedForward::kSwiGlu ? "silu" : "gelu_pytorch_tanh";
  const auto is_activation = [&](const std::string& name) {
    return name == activation || (name == "swish" && activation == std::string_view("silu"));
  };
  if (!reader.is_null_or_absent(activation_key) && !is_activation(reader.string(activation_key)))
    reader.fail(activation_key, fmt::format("{}, the only activation supported for {}", activation, traits.model_type));
  for (const char* key : {"use_bidirectional_attention", "use_mrope"})
    if (!reader.is_null_or_absent(key) && reader.boolean_or(key, false))
      reader.fail(key, "false, as attention is causal and positions are one-dimensional");
}

int64_t parse_kv_heads(const ConfigReader& reader, const FamilyTraits& traits, int64_t num_heads) {
  const char* key = "num_key_value_heads";
  int64_t num_kv_heads = num_heads;
  if (!reader.has(key) && traits.num_kv_heads > 0) num_kv_heads = traits.num_kv_heads;
  if (!reader.is_null_or_absent(key)) num_kv_heads = reader.integer(key, 1, kMaxHeads);
  if (num_heads % num_kv_heads != 0)
    reader.fail(key, fmt::format("a divisor of num_attention_heads {}{}", num_heads,
                                 reader.has(key) ? "" : fmt::format(" (default: {})", num_kv_heads)));
  return num_kv_heads;
}

int64_t parse_head_dim(const ConfigReader& reader, const FamilyTraits& traits, int64_t hidden_size, int64_t num_heads) {
  const char* key = "head_dim";
  const int64_t quotient = hidden_size / num_heads;
  if (!reader.is_null_or_absent(key) || (reader.has(key) && traits.head_dim > 0)) {
    const int64_t head_dim = reader.integer(key, 2, kMaxHeadDim);
    if (head_dim % 2 != 0) reader.fail(key, "an even number, as rotary embedding turns pairs");
    if (traits.derives_head_dim && head_dim != quotient)
      reader.fail(key, fmt::format("hidden_size / num_attention_heads {}", quotient));
    return head_dim;
  }
  if (traits.head_dim > 0) return traits.head_dim;
  if (hidden_size % num_heads != 0 || quotient % 2 != 0 || quotient > kMaxHeadDim)
    reader.fail("hidden_size", fmt::format("an even multiple of num_attention_heads {} at most {} times as large, or "
                                           "a head_dim",
                                           num_heads, kMaxHeadDim));
  return quotient;
}

/// The layers without rotary embedding; empty: none.
std::vector<bool> parse_unrotated(const ConfigReader& reader, const FamilyTraits& traits, const ModelConfig& config) {
  std::vector<bool> is_unrotated;
  if (traits.family == Family::kCohere2) {  // its layers without a window do not rotate
    for (const int64_t window : config.sliding_window) is_unrotated.push_back(window == 0);
  }
  if (traits.family != Family::kSmolLm3) return is_unrotated;
  const char* key = "no_rope_layers";
  const int64_t interval = reader.integer_or("no_rope_layer_interval", 1, kMaxLayers, 4);
  is_unrotated.resize(config.num_layers);
  if (reader.is_null_or_absent(key)) {
    for (int64_t layer = 0; layer < config.num_layers; ++layer) is_unrotated[layer] = (layer + 1) % interval == 0;
    return is_unrotated;
  }
  const json& flags = reader.object().at(key);  // 1: the layer rotates, whatever the name says
  const auto is_flag = [](const json& flag) {
    return flag.is_boolean() || (flag.is_number_integer() && (flag == 0 || flag == 1));
  };
  if (!flags.is_array() || std::ssize(flags) != config.num_layers || !std::all_of(flags.begin(), flags.end(), is_flag))
    reader.fail(key, fmt::format("an array of num_hidden_layers {} numbers, 1 for a layer that rotates or 0",
                                 config.num_layers));
  for (int64_t layer = 0; layer < config.num_layers; ++layer)
    is_unrotated[layer] = flags[layer] == 0 || flags[layer] == false;
  return is_unrotated;
}

/// Whether each layer has a sliding window, if layer_types does not say.
std::vector<bool> default_sliding_layers(const ConfigReader& reader, const FamilyTraits& traits,
                                         const ModelConfig& config) {
  const bool is_all = traits.window == WindowRule::kAll || traits.window == WindowRule::kQwen3Moe;
  std::vector<bool> slides(config.num_layers, is_all);
  const int64_t first = traits.window == WindowRule::kQwen || traits.window == WindowRule::kQwen2Moe
                            ? reader.integer_or("max_window_layers", 0, kMaxPositions, kDefaultMaxWindowLayers)
                            : 0;
  int64_t pattern = traits.window_pattern;
  const char* pattern_key = "sliding_window_pattern";
  const bool reads_pattern = traits.family == Family::kGemma3 || traits.family == Family::kCohere2;
  if (reads_pattern && !reader.is_null_or_absent(pattern_key)) pattern = reader.integer(pattern_key, 1, kMaxLayers);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (traits.window == WindowRule::kQwen) slides[layer] = layer >= first;
    if (traits.window == WindowRule::kQwen2Moe) slides[layer] = layer % 2 == 0 && layer < first;
    if (traits.window == WindowRule::kPattern) slides[layer] = (layer + 1) % pattern != 0;
    if (traits.window == WindowRule::kUnrotated) slides[layer] = config.rope_of(layer) == nullptr;
  }
  return slides;
}

std::vector<int64_t> parse_sliding_window(const ConfigReader& reader, const FamilyTraits& traits,
                                          const ModelConfig& config) {
  const int64_t num_layers = config.num_layers;
  std::vector<int64_t> windows(num_layers, 0);
  if (traits.window == WindowRule::kNone) return windows;
  const bool has_switch = traits.window == WindowRule::kQwen || traits.window == WindowRule::kUnrotated ||
                          traits.window == WindowRule::kQwen2Moe || traits.window == WindowRule::kQwen3Moe;
  int64_t window = 0;
  if (!has_switch || reader.boolean_or("use_sliding_window", false)) {
    window = traits.sliding_window;
    if (reader.has("sliding_window"))
      window = reader.is_null_or_absent("sliding_window") ? 0 : reader.integer("sliding_window", 1, kMaxPositions);
  }
  const std::vector<bool> slides = default_sliding_layers(reader, traits, config);
  // only models whose layers are alike in transformers ignore the types of their layers
  const bool are_alike = traits.window == WindowRule::kAll || traits.window == WindowRule::kQwen3Moe;
  const bool has_types =
      (!are_alike || traits.family == Family::kMinistral) && !reader.is_null_or_absent("layer_types");
  if (!has_types) {
    for (int64_t layer = 0; layer < num_layers; ++layer) windows[layer] = slides[layer] ? window : 0;
    if (traits.window == WindowRule::kPattern && window == 0)
      reader.fail("sliding_window", "a number, as most layers of this family have a window");
    return windows;
  }
  const json& types = reader.object().at("layer_types");
  if (!types.is_array() || types.size() != static_cast<size_t>(num_layers))
    reader.fail("layer_types", fmt::format("an array of num_hidden_layers {} names", num_layers));
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (types[layer] == "full_attention") continue;
    if (types[layer] != "sliding_attention")
      throw_error<DataError>("{}: layer_types: layer {}: expected one of full_attention, sliding_attention, got {}",
                             reader.where(), layer, quote_json(types[layer]));
    if (window == 0) reader.fail("layer_types", "full_attention only, as no sliding_window is in use");
    windows[layer] = window;
  }
  return windows;
}

void parse_biases(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  switch (traits.bias) {
    case BiasRule::kNone:
      break;
    case BiasRule::kQkv:
      config.has_qkv_bias = true;
      break;
    case BiasRule::kAttentionBias:
      config.has_qkv_bias = config.has_o_bias = reader.boolean_or("attention_bias", false);
      break;
    case BiasRule::kAttentionBiasOn:
      config.has_qkv_bias = config.has_o_bias = reader.boolean_or("attention_bias", true);
      break;
    case BiasRule::kQkvBias:
      config.has_qkv_bias = reader.boolean_or("qkv_bias", true);
      break;
    case BiasRule::kAttentionBiasQkv:
      config.has_qkv_bias = reader.boolean_or("attention_bias", true);
      break;
    case BiasRule::kUseBias:
      config.has_qkv_bias = config.has_o_bias = config.has_mlp_bias = reader.boolean_or("use_bias", true);
      break;
  }
  if (traits.has_mlp_bias_key) config.has_mlp_bias = reader.boolean_or("mlp_bias", false);
}

/// The numbers that scale scores, residual stream and logits.
void parse_multipliers(const ConfigReader& reader, ModelConfig& config) {
  constexpr double kSmallest = 1e-6;
  const auto number = [&](const char* key, double fallback) {
    return reader.is_null_or_absent(key) ? fallback : reader.number(key, kSmallest, kMaxMultiplier);
  };
  const auto cap = [&](const char* key, double fallback) {
    return reader.has(key) ? number(key, 0) : fallback;  // null is none
  };
  switch (config.family) {
    case Family::kGemma2:
    case Family::kGemma3:
      config.score_scale =
          1 / std::sqrt(static_cast<double>(reader.integer_or("query_pre_attn_scalar", 1, kMaxHiddenSize, 256)));
      config.embedding_multiplier = std::sqrt(static_cast<double>(config.hidden_size));
      if (config.family == Family::kGemma2) config.score_cap = cap("attn_logit_softcapping", 50);
      config.logits.cap = cap("final_logit_softcapping", config.family == Family::kGemma2 ? 30 : 0);
      break;
    case Family::kGranite:
      config.score_scale = number("attention_multiplier", 1);
      config.embedding_multiplier = number("embedding_multiplier", 1);
      config.residual_multiplier = number("residual_multiplier", 1);
      config.logits.scale = 1 / number("logits_scaling", 1);
      break;
    case Family::kCohere2:
      config.logits.scale = number("logit_scale", 0.0625);
      break;
    default:
      break;
  }
}

/// transformers selects the class by `architectures`; a directory without it is a language model.
HeadKind parse_head(const ConfigReader& reader) {
  if (reader.is_null_or_absent("architectures")) return HeadKind::kLanguageModel;
  const json& names = reader.object().at("architectures");
  const bool is_classifier = names.is_array() && names.size() == 1 && names[0].is_string() &&
                             names[0].get_ref<const std::string&>().ends_with("ForSequenceClassification");
  if (!is_classifier) return HeadKind::kLanguageModel;
  const bool has_labels = !reader.is_null_or_absent("id2label") && reader.object().at("id2label").is_object();
  const int64_t num_labels = has_labels ? std::ssize(reader.object().at("id2label"))
                                        : reader.integer_or("num_labels", 0, kMaxVocabSize, 2);  // as in transformers
  if (num_labels != 1)
    reader.fail("id2label", fmt::format("one label, as a reward model has, not the {} of a classifier", num_labels));
  return HeadKind::kScore;
}

/// pad_token_id: as a negative index it counts from the end, as torch.nn.Embedding has it.
void parse_pad_token(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  if (reader.has("pad_token_id") && reader.is_null_or_absent("pad_token_id")) return;
  if (!reader.has("pad_token_id") && traits.pad_token_id >= config.vocab_size) return;
  config.pad_token_id = static_cast<int32_t>(reader.integer_or("pad_token_id", -1, kMaxVocabSize, traits.pad_token_id));
  if (!reader.has("pad_token_id") && config.pad_token_id < 0) return;
  const int64_t row = config.pad_token_id < 0 ? config.vocab_size + config.pad_token_id : config.pad_token_id;
  if (row < config.vocab_size) config.frozen_input_token = row;
}

void parse_special_tokens(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  const int64_t last = config.vocab_size - 1;
  const std::string expected = fmt::format("a token id from 0 to {}, a list of them, or null", last);
  config.bos_token_id = traits.bos_token_id <= last ? traits.bos_token_id : -1;  // the vocabulary may be smaller
  if (reader.has("bos_token_id"))
    config.bos_token_id =
        reader.is_null_or_absent("bos_token_id") ? -1 : static_cast<int32_t>(reader.integer("bos_token_id", 0, last));
  parse_pad_token(reader, traits, config);
  if (!reader.has("eos_token_id")) {
    for (const int32_t id : traits.eos_token_ids)
      if (id >= 0 && id <= last) config.eos_token_ids.push_back(id);
    return;
  }
  const json& eos = reader.object().at("eos_token_id");
  if (eos.is_null()) return;
  for (const json& id : eos.is_array() ? eos : json::array({eos})) {
    const bool is_token = id.is_number_integer() && id >= 0 && id <= last;
    if (!is_token) reader.fail("eos_token_id", expected);
    config.eos_token_ids.push_back(id.get<int32_t>());
  }
}

void check_total_size(const ConfigReader& reader, const ModelConfig& config) {
  const double d = static_cast<double>(config.hidden_size);
  const double heads = static_cast<double>(2 * (config.num_heads + config.num_kv_heads) * config.head_dim);
  const MixtureConfig& mixture = config.mixture;
  const double experts = static_cast<double>(mixture.num_experts) * static_cast<double>(mixture.expert_size) +
                         static_cast<double>(mixture.shared_expert_size);
  const double per_layer = d * (heads + 3.0 * std::max(experts, static_cast<double>(config.intermediate_size)));
  const double total =
      per_layer * static_cast<double>(config.num_layers) + 2 * d * static_cast<double>(config.vocab_size);
  if (total > kMaxParameters)
    throw_error<DataError>("{}: expected a model of at most {:.0e} parameters, got {:.1e}", reader.where(),
                           kMaxParameters, total);
}

void parse_sizes(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  const auto integer = [&](const char* key, int64_t most, int64_t fallback) {
    return fallback > 0 ? reader.integer_or(key, 1, most, fallback) : reader.integer(key, 1, most);
  };
  config.vocab_size = integer("vocab_size", kMaxVocabSize, traits.vocab_size);
  config.hidden_size = reader.integer("hidden_size", 1, kMaxHiddenSize);
  config.intermediate_size = reader.integer("intermediate_size", 1, kMaxIntermediateSize);
  config.num_layers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = integer("num_attention_heads", kMaxHeads, traits.num_heads);
  config.num_kv_heads = parse_kv_heads(reader, traits, config.num_heads);
  config.head_dim = parse_head_dim(reader, traits, config.hidden_size, config.num_heads);
  config.max_position_embeddings =
      reader.integer_or("max_position_embeddings", 1, kMaxPositions, traits.max_position_embeddings);
  parse_mixture(reader, traits, config);
  check_total_size(reader, config);
}

/// Sets the switches that the family fixes, whatever the file says.
void take_traits(const FamilyTraits& traits, ModelConfig& config) {
  config.family = traits.family;
  config.norm = traits.norm;
  config.norm_placement = traits.norm_placement;
  config.qk_norm = traits.qk_norm;
  config.feed_forward = traits.feed_forward;
  config.has_fused_qkv = traits.has_fused_qkv;
  config.has_fused_gate_up = traits.has_fused_gate_up;
}

ModelConfig parse_decoder(const ConfigReader& reader, const FamilyTraits& traits) {
  refuse_unsupported(reader, traits);
  ModelConfig config;
  take_traits(traits, config);
  config.is_quantized = parse_quantization_config(reader, traits.family == Family::kGptOss);
  parse_sizes(reader, traits, config);
  config.norm.epsilon = reader.number_or(std::string(traits.epsilon_key).c_str(), 1e-30, 1.0, traits.norm_epsilon);
  const bool unrotated_first = traits.window == WindowRule::kUnrotated;
  if (unrotated_first) config.is_unrotated = parse_unrotated(reader, traits, config);
  config.sliding_window = parse_sliding_window(reader, traits, config);
  if (!unrotated_first) config.is_unrotated = parse_unrotated(reader, traits, config);
  parse_rope(reader, traits, config);
  parse_biases(reader, traits, config);
  parse_multipliers(reader, config);
  config.ties_embeddings = reader.boolean_or("tie_word_embeddings", traits.ties_embeddings);
  config.head = parse_head(reader);
  config.initializer_range = reader.number_or("initializer_range", 0.0, 1.0, config.initializer_range);
  parse_special_tokens(reader, traits, config);
  refuse_unknown_keys(reader);
  return config;
}

}  // namespace

ModelConfig parse_model_config(std::string_view json_text, std::string_view where) {
  const json object = parse_config_object(json_text, where);
  const ConfigReader reader(object, std::string(where));
  // a model of images and texts: the language model is trained, the rest is not read
  if (reader.string_or("model_type", "") == "gemma3" && !reader.is_null_or_absent("text_config")) {
    json text = object.at("text_config");
    if (!text.is_object()) reader.fail("text_config", "an object");
    for (const char* key : {"model_type", "architectures", "tie_word_embeddings"}) text.erase(key);
    text["model_type"] = "gemma3_text";
    for (const char* key : {"eos_token_id", "quantization_config", "tie_word_embeddings"})
      if (object.contains(key)) text[key] = object[key];
    const ConfigReader inner(text, fmt::format("{}: text_config", where));
    return parse_decoder(inner, parse_family(inner));
  }
  return parse_decoder(reader, parse_family(reader));
}

}  // namespace plumb
