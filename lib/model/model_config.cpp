#include "lib/model/model_config.hpp"

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/quantization_config.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxVocabSize = 10'000'000, kMaxHiddenSize = 1'000'000, kMaxIntermediateSize = 10'000'000;
constexpr int64_t kMaxLayers = 10'000, kMaxHeads = 10'000, kMaxHeadDim = 16'384, kMaxPositions = 1'000'000'000;
constexpr double kMaxParameters = 1e14;

/// The defaults of the transformers config class for absent keys, and the fixed choices of its model class.
struct FamilyTraits {
  Family family;
  const char* model_type;
  const char* class_prefix;
  int64_t num_kv_heads;  // 0: same as num_heads
  int64_t head_dim;      // 0: hidden_size / num_attention_heads
  int64_t max_position_embeddings;
  int32_t bos_token_id;
  int32_t eos_token_id;
};

constexpr FamilyTraits kFamilies[] = {
    {Family::kLlama, "llama", "Llama", 0, 0, 2048, 1, 2},
    {Family::kMistral, "mistral", "Mistral", 8, 0, 4096 * 32, 1, 2},
    {Family::kMinistral, "ministral", "Ministral", 8, 0, 4096 * 32, 1, 2},
    {Family::kQwen2, "qwen2", "Qwen2", 32, 0, 32768, -1, -1},
    {Family::kQwen3, "qwen3", "Qwen3", 32, 128, 32768, -1, -1},
};

constexpr int64_t kDefaultSlidingWindow = 4096, kDefaultMaxWindowLayers = 28;

const FamilyTraits& parse_family(const ConfigReader& reader) {
  std::string model_type = reader.string_or("model_type", "");
  if (model_type == "mistral" && reader.has("layer_types")) model_type = "ministral";  // as AutoConfig has it
  std::string known;
  for (const FamilyTraits& traits : kFamilies) {
    if (model_type == traits.model_type) return traits;
    known += (known.empty() ? "" : ", ") + std::string(traits.model_type);
  }
  reader.fail("model_type", "one of " + known);
}

const FamilyTraits& traits_of(Family family) {
  const auto* found =
      std::find_if(std::begin(kFamilies), std::end(kFamilies), [&](const auto& t) { return t.family == family; });
  check(found != std::end(kFamilies), "every family has its traits");
  return *found;
}

void refuse_unsupported(const ConfigReader& reader, Family family) {
  if (reader.string_or("hidden_act", "silu") != "silu")
    reader.fail("hidden_act", "silu, the only activation supported");
  if (family == Family::kLlama && reader.boolean_or("mlp_bias", false))
    reader.fail("mlp_bias", "false, as biases in the MLP are not supported");
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
  if (!reader.is_null_or_absent(key) || (reader.has(key) && traits.head_dim > 0)) {
    const int64_t head_dim = reader.integer(key, 2, kMaxHeadDim);
    if (head_dim % 2 != 0) reader.fail(key, "an even number, as rotary embedding turns pairs");
    return head_dim;
  }
  if (traits.head_dim > 0) return traits.head_dim;
  const int64_t head_dim = hidden_size / num_heads;
  if (hidden_size % num_heads != 0 || head_dim % 2 != 0 || head_dim > kMaxHeadDim)
    reader.fail("hidden_size", fmt::format("an even multiple of num_attention_heads {} at most {} times as large, or "
                                           "a head_dim",
                                           num_heads, kMaxHeadDim));
  return head_dim;
}

RopeConfig parse_rope(const ConfigReader& reader, int64_t max_position_embeddings) {
  // transformers prefers rope_scaling (version 4) to rope_parameters (version 5); null and {} count as absent
  json object = json::object();
  const char* source = "rope_parameters";
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (reader.is_null_or_absent(key)) continue;
    const json& value = reader.object().at(key);
    if (!value.is_object()) reader.fail(key, "an object or null");
    if (value.empty()) continue;
    object = value;
    source = key;
    break;
  }
  for (const auto& [key, value] : object.items())
    if (value.is_object()) reader.fail(source, "one set of numbers for all layers");

  const ConfigReader rope_reader(object, fmt::format("{}: {}", reader.where(), source));
  constexpr double kMinTheta = 1.0, kMaxTheta = 1e15, kMinFactor = 1e-3, kMaxFactor = 1e6;
  RopeConfig rope;
  rope.theta = rope_reader.has("rope_theta") ? rope_reader.number("rope_theta", kMinTheta, kMaxTheta)
                                             : reader.number_or("rope_theta", kMinTheta, kMaxTheta, rope.theta);
  for (const ConfigReader* place : {&rope_reader, &reader})
    if (!place->is_null_or_absent("partial_rotary_factor") && place->number("partial_rotary_factor", 0, 1) != 1)
      place->fail("partial_rotary_factor", "1, as rotary embedding of a part of a head is not supported");

  const char* type_key = rope_reader.has("rope_type") || !rope_reader.has("type") ? "rope_type" : "type";
  const std::string type = rope_reader.string_or(type_key, "default");
  if (type == "default") return rope;
  if (type != "linear" && type != "llama3") rope_reader.fail(type_key, "one of default, linear, llama3");
  rope.kind = type == "linear" ? RopeConfig::Kind::kLinear : RopeConfig::Kind::kLlama3;
  rope.factor = rope_reader.number("factor", kMinFactor, kMaxFactor);
  if (rope.kind == RopeConfig::Kind::kLinear) return rope;
  rope.low_freq_factor = rope_reader.number("low_freq_factor", kMinFactor, kMaxFactor);
  rope.high_freq_factor = rope_reader.number("high_freq_factor", kMinFactor, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor)
    rope_reader.fail("high_freq_factor", fmt::format("more than low_freq_factor {}", rope.low_freq_factor));
  const char* original = "original_max_position_embeddings";
  rope.original_max_position_embeddings =
      reader.has(original) ? reader.integer(original, 1, kMaxPositions)
                           : rope_reader.integer_or(original, 1, kMaxPositions, max_position_embeddings);
  return rope;
}

std::vector<int64_t> parse_sliding_window(const ConfigReader& reader, Family family, int64_t num_layers) {
  std::vector<int64_t> windows(num_layers, 0);
  const bool is_qwen = family == Family::kQwen2 || family == Family::kQwen3;
  const bool is_mistral = family == Family::kMistral || family == Family::kMinistral;
  const bool may_slide = is_mistral || (is_qwen && reader.boolean_or("use_sliding_window", false));
  int64_t window = 0;
  if (may_slide && !(reader.has("sliding_window") && reader.is_null_or_absent("sliding_window")))
    window = reader.integer_or("sliding_window", 1, kMaxPositions, kDefaultSlidingWindow);
  const bool has_types = (is_qwen || family == Family::kMinistral) && !reader.is_null_or_absent("layer_types");
  if (!is_qwen && !has_types) {
    std::fill(windows.begin(), windows.end(), window);
    return windows;
  }
  if (!has_types) {
    const int64_t first = reader.integer_or("max_window_layers", 0, kMaxPositions, kDefaultMaxWindowLayers);
    for (int64_t layer = first; layer < num_layers; ++layer) windows[layer] = window;
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

/// transformers selects the class by `architectures`; a directory without it is a language model.
HeadKind parse_head(const ConfigReader& reader) {
  if (reader.is_null_or_absent("architectures")) return HeadKind::kLanguageModel;
  const json& names = reader.object().at("architectures");
  const bool is_classifier = names.is_array() && names.size() == 1 && names[0].is_string() &&
                             names[0].get_ref<const std::string&>().ends_with("ForSequenceClassification");
  if (!is_classifier) return HeadKind::kLanguageModel;
  const bool has_labels = !reader.is_null_or_absent("id2label") && reader.object().at("id2label").is_object();
  const int64_t num_labels = has_labels ? std::ssize(reader.object().at("id2label")) : 2;  // default in transformers
  if (num_labels != 1)
    reader.fail("id2label", fmt::format("one label, as a reward model has, not the {} of a classifier", num_labels));
  return HeadKind::kScore;
}

void parse_special_tokens(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config) {
  const int64_t last = config.vocab_size - 1;
  const std::string expected = fmt::format("a token id from 0 to {}, a list of them, or null", last);
  const auto default_id = [&](int32_t id) { return id <= last ? id : -1; };  // the vocabulary may be smaller
  config.bos_token_id = default_id(traits.bos_token_id);
  if (reader.has("bos_token_id"))
    config.bos_token_id =
        reader.is_null_or_absent("bos_token_id") ? -1 : static_cast<int32_t>(reader.integer("bos_token_id", 0, last));
  if (!reader.is_null_or_absent("pad_token_id")) {
    config.pad_token_id = static_cast<int32_t>(reader.integer("pad_token_id", -1, kMaxVocabSize));
    // a negative index counts from the end, as torch.nn.Embedding has it
    const int64_t row = config.pad_token_id < 0 ? config.vocab_size + config.pad_token_id : config.pad_token_id;
    if (row < config.vocab_size) config.frozen_input_token = row;
  }
  if (!reader.has("eos_token_id")) {
    if (const int32_t id = default_id(traits.eos_token_id); id >= 0) config.eos_token_ids.push_back(id);
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
  const double per_layer = d * (heads + 3.0 * static_cast<double>(config.intermediate_size));
  const double total =
      per_layer * static_cast<double>(config.num_layers) + 2 * d * static_cast<double>(config.vocab_size);
  if (total > kMaxParameters)
    throw_error<DataError>("{}: expected a model of at most {:.0e} parameters, got {:.1e}", reader.where(),
                           kMaxParameters, total);
}

json render_rope(const RopeConfig& rope) {
  json object = {{"rope_theta", rope.theta}, {"rope_type", "default"}};
  if (rope.kind == RopeConfig::Kind::kDefault) return object;
  object["factor"] = rope.factor;
  object["rope_type"] = rope.kind == RopeConfig::Kind::kLinear ? "linear" : "llama3";
  if (rope.kind == RopeConfig::Kind::kLinear) return object;
  object["low_freq_factor"] = rope.low_freq_factor;
  object["high_freq_factor"] = rope.high_freq_factor;
  object["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  return object;
}

void render_sliding_window(const ModelConfig& config, json& object) {
  int64_t window = 0;
  json types = json::array();
  for (int64_t layer_window : config.sliding_window) {
    window = std::max(window, layer_window);
    types.push_back(layer_window > 0 ? "sliding_attention" : "full_attention");
  }
  for (int64_t layer_window : config.sliding_window)
    check(layer_window == 0 || layer_window == window, "all sliding layers of a config share one window");
  object["sliding_window"] = window > 0 ? json(window) : json();
  if (config.family == Family::kMistral) {
    check(std::count(config.sliding_window.begin(), config.sliding_window.end(), window) == config.num_layers,
          "all layers of a Mistral config slide, or none");
    return;
  }
  object["layer_types"] = std::move(types);
  if (config.family == Family::kMinistral) return;
  object["use_sliding_window"] = window > 0;
  object["max_window_layers"] = config.num_layers;  // layer_types overrides it
}

}  // namespace

ModelConfig parse_model_config(std::string_view json_text, std::string_view where) {
  const json object = parse_config_object(json_text, where);
  const ConfigReader reader(object, std::string(where));
  const FamilyTraits& traits = parse_family(reader);
  refuse_unsupported(reader, traits.family);

  ModelConfig config;
  config.family = traits.family;
  config.is_quantized = parse_quantization_config(reader);
  config.vocab_size = reader.integer("vocab_size", 1, kMaxVocabSize);
  config.hidden_size = reader.integer("hidden_size", 1, kMaxHiddenSize);
  config.intermediate_size = reader.integer("intermediate_size", 1, kMaxIntermediateSize);
  config.num_layers = reader.integer("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = reader.integer("num_attention_heads", 1, kMaxHeads);
  config.num_kv_heads = parse_kv_heads(reader, traits, config.num_heads);
  config.head_dim = parse_head_dim(reader, traits, config.hidden_size, config.num_heads);
  config.max_position_embeddings =
      reader.integer_or("max_position_embeddings", 1, kMaxPositions, traits.max_position_embeddings);
  check_total_size(reader, config);
  config.rms_norm_eps = reader.number_or("rms_norm_eps", 1e-30, 1.0, config.rms_norm_eps);
  config.rope = parse_rope(reader, config.max_position_embeddings);
  config.sliding_window = parse_sliding_window(reader, config.family, config.num_layers);
  config.ties_embeddings = reader.boolean_or("tie_word_embeddings", false);
  config.head = parse_head(reader);
  // the other families have no attention_bias: Qwen2 always has biases on q, k and v, Mistral never
  const bool may_choose_bias = config.family == Family::kLlama || config.family == Family::kQwen3;
  config.has_o_bias = may_choose_bias && reader.boolean_or("attention_bias", false);
  config.has_qkv_bias = config.has_o_bias || config.family == Family::kQwen2;
  config.has_qk_norm = config.family == Family::kQwen3;
  config.initializer_range = reader.number_or("initializer_range", 0.0, 1.0, config.initializer_range);
  parse_special_tokens(reader, traits, config);
  return config;
}

std::string render_model_config(const ModelConfig& config, std::string_view dtype) {
  const FamilyTraits& traits = traits_of(config.family);
  const bool has_score = config.head == HeadKind::kScore;
  const std::string architecture =
      std::string(traits.class_prefix) + (has_score ? "ForSequenceClassification" : "ForCausalLM");
  json object = {
      {"architectures", json::array({architecture})},
      {"attention_dropout", 0.0},
      {"bos_token_id", config.bos_token_id < 0 ? json() : json(config.bos_token_id)},
      {"dtype", dtype},
      {"eos_token_id", json(config.eos_token_ids)},
      {"head_dim", config.head_dim},
      {"hidden_act", "silu"},
      {"hidden_size", config.hidden_size},
      {"initializer_range", config.initializer_range},
      {"intermediate_size", config.intermediate_size},
      {"max_position_embeddings", config.max_position_embeddings},
      {"model_type", traits.model_type},
      {"num_attention_heads", config.num_heads},
      {"num_hidden_layers", config.num_layers},
      {"num_key_value_heads", config.num_kv_heads},
      {"rms_norm_eps", config.rms_norm_eps},
      {"rope_parameters", render_rope(config.rope)},
      {"tie_word_embeddings", config.ties_embeddings},
      {"use_cache", true},
      {"vocab_size", config.vocab_size},
  };
  if (config.eos_token_ids.size() < 2)
    object["eos_token_id"] = config.eos_token_ids.empty() ? json() : json(config.eos_token_ids[0]);
  if (config.pad_token_id >= 0) object["pad_token_id"] = config.pad_token_id;
  if (has_score) {  // one label; the default in transformers would be two
    object["id2label"] = {{"0", "LABEL_0"}};
    object["label2id"] = {{"LABEL_0", 0}};
  }
  // transformers 4 reads these two keys and would otherwise silently use its defaults
  object["rope_theta"] = config.rope.theta;
  if (config.rope.kind != RopeConfig::Kind::kDefault) object["rope_scaling"] = object["rope_parameters"];
  if (config.family == Family::kLlama) object["mlp_bias"] = false;
  if (config.family == Family::kLlama || config.family == Family::kQwen3) object["attention_bias"] = config.has_o_bias;
  if (config.family != Family::kLlama) render_sliding_window(config, object);
  return object.dump(2) + "\n";
}

}  // namespace plumb
