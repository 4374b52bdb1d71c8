#include "io/huggingface/peft_config.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"

namespace plumb {

using nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

namespace {

constexpr size_t kMaxListed = 1 << 14, kMaxTokenRows = 1 << 20;
constexpr size_t kMaxPatternBytes = 4096;  // limit for a module name or an expression; messages repeat them
constexpr double kMaxAlpha = 1e9;

using enum LoraKeyUse;
constexpr LoraKey kKeys[] = {
    {"peft_type", kRead, ""},
    {"task_type", kRead, ""},
    {"base_model_name_or_path", kRead, ""},
    {"r", kRead, ""},
    {"lora_alpha", kRead, ""},
    {"lora_dropout", kRead, ""},
    {"target_modules", kRead, ""},
    {"target_parameters", kRead, ""},
    {"exclude_modules", kRead, ""},
    {"rank_pattern", kRead, ""},
    {"alpha_pattern", kRead, ""},
    {"layers_to_transform", kRead, ""},
    {"layers_pattern", kRead, ""},
    {"modules_to_save", kRead, ""},
    {"trainable_token_indices", kRead, ""},
    {"ensure_weight_tying", kRead, ""},
    {"use_rslora", kRead, ""},
    {"use_dora", kRead, ""},
    {"init_lora_weights", kRead, ""},
    {"auto_mapping", kHarmless, "names the Python class of the base"},
    {"bias", kHarmless, "biases that were trained are in the file and take the place of the base's"},
    {"corda_config", kHarmless, "settings of an initialization, which init_lora_weights names"},
    {"enable_lora", kHarmless, "names parts of fused matrices, which the models that plumb reads lack"},
    {"eva_config", kHarmless, "settings of an initialization, which init_lora_weights names"},
    {"fan_in_fan_out", kHarmless, "PEFT turns it off for layers that are not transposed, and plumb has no others"},
    {"inference_mode", kHarmless, "decides only what is trained after loading"},
    {"loftq_config", kHarmless, "settings of an initialization, which init_lora_weights names"},
    {"lora_dtype", kHarmless, "of training in ms-swift; the file has its own"},
    {"lora_ga_config", kHarmless, "settings of an initialization, which init_lora_weights names"},
    {"lorap_emb_lr", kHarmless, "a learning rate of ms-swift"},
    {"lorap_lr_ratio", kHarmless, "a learning rate of ms-swift"},
    {"megatron_core", kHarmless, "a Python module, used with megatron_config only"},
    {"merge_weights", kHarmless, "of PEFT 0.1: when weights are merged, not what they are"},
    {"peft_version", kHarmless, "the version that wrote the file"},
    {"qalora_group_size", kHarmless, "used with use_qalora only"},
    {"revision", kHarmless, "of the base on the Hub"},
    {"runtime_config", kHarmless, "where weights are held while loading"},
    {"velora_config", kHarmless, "how inputs are kept for the backward pass"},
    {"alora_invocation_tokens", kOffOnly, "the adapter acts only after these tokens"},
    {"arrow_config", kOffOnly, "several adapters are routed"},
    {"kasa_config", kOffOnly, "the base is truncated"},
    {"layer_replication", kOffOnly, "layers of the base are repeated"},
    {"lora_bias", kOffOnly, "B has a bias"},
    {"megatron_config", kOffOnly, "the layers are those of Megatron"},
    {"monteclora_config", kOffOnly, "the adapter is a distribution"},
    {"use_bdlora", kOffOnly, "A or B are block-diagonal"},
    {"use_qalora", kOffOnly, "inputs are pooled"},
};

constexpr const char* kMergeWithPeft =
    "plumb reads plain LoRA, rsLoRA and DoRA; merge the adapter with PEFT (merge_and_unload, save_pretrained) and give "
    "the result as --model";

bool is_off(const json& value) {
  return value.is_null() || value == json(false) || (value.is_structured() && value.empty());
}

/// A list of strings; empty if the key is null or absent.
std::vector<std::string> read_names(const ConfigReader& reader, const char* key, std::string_view expected) {
  std::vector<std::string> names;
  if (reader.is_null_or_absent(key)) return names;
  const json& value = reader.object().at(key);
  if (!value.is_array() || value.size() > kMaxListed) reader.fail(key, expected);
  for (const json& name : value) {
    const bool is_name = name.is_string() && !name.get_ref<const std::string&>().empty() &&
                         name.get_ref<const std::string&>().size() <= kMaxPatternBytes;
    if (!is_name) reader.fail(key, expected);
    names.push_back(name.get<std::string>());
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

ModuleSelection read_selection(const ConfigReader& reader, const char* key) {
  const std::string expected =
      fmt::format("a list of module names or one regular expression, of at most {} bytes", kMaxPatternBytes);
  if (!reader.has(key) || !reader.object().at(key).is_string()) return {read_names(reader, key, expected), ""};
  const std::string expression = reader.string(key);
  if (expression.size() > kMaxPatternBytes) reader.fail(key, expected);
  return {{}, expression};
}

/// Reads each entry of an object from pattern to number, in the order of the file, with read(reader of the object,
/// pattern).
template <class Value, class Read>
ModulePatterns<Value> read_pattern(const ConfigReader& reader, const OrderedJson& ordered, const char* key, Read read) {
  ModulePatterns<Value> values;
  if (reader.is_null_or_absent(key)) return values;
  const json& object = reader.object().at(key);
  if (!object.is_object() || object.size() > kMaxListed) reader.fail(key, "an object from module to number");
  const ConfigReader entries(object, fmt::format("{}: {}", reader.where(), key));
  for (const auto& [pattern, value] : ordered.at(key).items()) {
    if (pattern.size() > kMaxPatternBytes)
      reader.fail(key, fmt::format("modules named in at most {} bytes", kMaxPatternBytes));
    values.emplace_back(pattern, read(entries, pattern.c_str()));
  }
  return values;
}

std::vector<int64_t> read_layers(const ConfigReader& reader) {
  constexpr const char* kKey = "layers_to_transform";
  constexpr int64_t kMaxLayer = 1 << 20;
  std::vector<int64_t> layers;
  if (reader.is_null_or_absent(kKey)) return layers;
  const json& value = reader.object().at(kKey);
  if (value.is_number()) return {reader.integer(kKey, 0, kMaxLayer)};
  if (!value.is_array() || value.size() > kMaxListed) reader.fail(kKey, "a list of layer numbers");
  for (const json& layer : value) {
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() > static_cast<uint64_t>(kMaxLayer))
      reader.fail(kKey, "a list of layer numbers");
    layers.push_back(layer.get<int64_t>());
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

void refuse_unsupported(const ConfigReader& reader) {
  const auto refuse = [&](std::string_view key, std::string_view reason, std::string_view cure = kMergeWithPeft) {
    throw_error<DataError>("{}: {}: {}: not supported{}{}; {}", reader.where(), key,
                           quote_json(reader.object().at(std::string(key))), reason.empty() ? "" : ": ", reason, cure);
  };
  if (const std::string type = reader.string("peft_type"); type != "LORA") refuse("peft_type", "");
  for (const auto& [key, value] : reader.object().items()) {
    const auto* known =
        std::find_if(std::begin(kKeys), std::end(kKeys), [&](const LoraKey& k) { return k.name == key; });
    if (is_off(value) || (known != std::end(kKeys) && known->use != kOffOnly)) continue;
    if (known != std::end(kKeys)) refuse(key, known->reason);
    refuse(key, "plumb does not know this key", "if it has no effect on what the adapter computes, remove it");
  }
  if (!reader.is_null_or_absent("init_lora_weights")) {
    const json& init = reader.object().at("init_lora_weights");
    if (!init.is_boolean() && init != "gaussian" && init != "eva" && init != "orthogonal" && init != "mica")
      refuse("init_lora_weights", "it changed the base, so that the adapter alone does not determine the model",
             "save the adapter again with PEFT's path_initial_model_for_weight_conversion, or merge it with PEFT");
  }
  if (!reader.is_null_or_absent("layers_pattern")) {
    const json& pattern = reader.object().at("layers_pattern");
    if (pattern != "" && pattern != "layers" && pattern != json::array() && pattern != json::array({"layers"}))
      refuse("layers_pattern", "the blocks of these models are \"layers\"");
  }
}

std::vector<int64_t> read_tokens(const ConfigReader& reader, const char* key, const json& value) {
  constexpr int64_t kMaxToken = 1 << 30;
  constexpr const char* kExpected = "a list of different token ids";
  if (!value.is_array() || value.empty() || value.size() > kMaxTokenRows) reader.fail(key, kExpected);
  std::vector<int64_t> tokens;
  for (const json& token : value) {
    if (!token.is_number_unsigned() || token.get<uint64_t>() > uint64_t{kMaxToken}) reader.fail(key, kExpected);
    tokens.push_back(token.get<int64_t>());
  }
  std::vector<int64_t> sorted = tokens;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) reader.fail(key, kExpected);
  return tokens;
}

/// A list is of the input embedding.
std::vector<std::pair<std::string, std::vector<int64_t>>> read_token_rows(const ConfigReader& reader) {
  constexpr const char* kKey = "trainable_token_indices";
  if (!reader.has(kKey) || is_off(reader.object().at(kKey))) return {};
  const json& value = reader.object().at(kKey);
  if (!value.is_object()) return {{"embed_tokens", read_tokens(reader, kKey, value)}};
  if (value.size() > 2) reader.fail(kKey, "tokens of the embedding, the head or both");
  std::vector<std::pair<std::string, std::vector<int64_t>>> rows;
  for (const auto& [module, tokens] : value.items()) {
    if (module.empty() || module.size() > kMaxPatternBytes) reader.fail(kKey, "an object from module to tokens");
    rows.emplace_back(module, read_tokens(reader, kKey, tokens));
  }
  return rows;
}

json token_rows_json(const LoraConfig& config) {
  json rows = json::object();
  for (const auto& [module, tokens] : config.token_rows) rows[module] = tokens;
  return rows;
}

json selection_json(const ModuleSelection& selection) {
  if (!selection.regex.empty()) return selection.regex;
  if (selection.names.empty()) return nullptr;
  std::vector<std::string> names = selection.names;
  std::sort(names.begin(), names.end());
  return names;
}

/// PEFT writes integers where possible.
json number_json(double value) { return value == std::floor(value) ? json(static_cast<int64_t>(value)) : json(value); }

}  // namespace

std::span<const LoraKey> lora_keys() { return kKeys; }

LoraConfig parse_lora_config(std::string_view json_text, std::string_view where) {
  const json object = parse_config_object(json_text, where);
  const OrderedJson ordered = OrderedJson::parse(json_text);
  const ConfigReader reader(object, std::string(where));
  refuse_unsupported(reader);
  LoraConfig config;
  const auto string_or_null = [&](const char* key) { return reader.is_null_or_absent(key) ? "" : reader.string(key); };
  config.base_model = string_or_null("base_model_name_or_path");
  config.task_type = string_or_null("task_type");
  if (!config.task_type.empty() && config.task_type != "CAUSAL_LM" && config.task_type != "SEQ_CLS")
    reader.fail("task_type", "CAUSAL_LM or SEQ_CLS");
  config.r = reader.integer_or("r", 1, kMaxLoraRank, config.r);
  config.lora_alpha = reader.number_or("lora_alpha", 0, kMaxAlpha, config.lora_alpha);
  config.lora_dropout = reader.number_or("lora_dropout", 0, 1, config.lora_dropout);
  config.target_modules = read_selection(reader, "target_modules");
  config.target_parameters = read_names(reader, "target_parameters", "a list of parameter names");
  if (reader.is_null_or_absent("target_modules") && config.target_parameters.empty())
    config.target_modules.names = {"q_proj", "v_proj"};
  config.exclude_modules = read_selection(reader, "exclude_modules");
  config.rank_pattern = read_pattern<int64_t>(
      reader, ordered, "rank_pattern",
      [](const ConfigReader& entries, const char* key) { return entries.integer(key, 1, kMaxLoraRank); });
  config.alpha_pattern = read_pattern<double>(
      reader, ordered, "alpha_pattern",
      [](const ConfigReader& entries, const char* key) { return entries.number(key, 0, kMaxAlpha); });
  config.layers_to_transform = read_layers(reader);
  if (!config.layers_to_transform.empty() && !config.target_modules.regex.empty())
    reader.fail("layers_to_transform", "none beside a regular expression in target_modules");
  config.modules_to_save = read_names(reader, "modules_to_save", "a list of module names");
  config.token_rows = read_token_rows(reader);
  config.ensures_tying =
      !reader.is_null_or_absent("ensure_weight_tying") && reader.boolean_or("ensure_weight_tying", false);
  config.uses_rslora = reader.boolean_or("use_rslora", false);
  config.uses_dora = reader.boolean_or("use_dora", false);
  return config;
}

std::string render_lora_config(const LoraConfig& config) {
  const auto string_or_null = [](const std::string& text) { return text.empty() ? json() : json(text); };
  OrderedJson rank_pattern = OrderedJson::object(), alpha_pattern = OrderedJson::object();
  for (const auto& [pattern, rank] : config.rank_pattern) rank_pattern[pattern] = rank;
  for (const auto& [pattern, alpha] : config.alpha_pattern) alpha_pattern[pattern] = number_json(alpha);
  const json sorted = {
      {"peft_type", "LORA"},
      {"task_type", string_or_null(config.task_type)},
      {"base_model_name_or_path", string_or_null(config.base_model)},
      {"r", config.r},
      {"lora_alpha", number_json(config.lora_alpha)},
      {"lora_dropout", config.lora_dropout},
      {"target_modules", selection_json(config.target_modules)},
      {"exclude_modules", selection_json(config.exclude_modules)},
      {"rank_pattern", json::object()},
      {"alpha_pattern", json::object()},
      {"layers_to_transform", config.layers_to_transform.empty() ? json() : json(config.layers_to_transform)},
      {"modules_to_save", selection_json({config.modules_to_save, ""})},
      {"use_rslora", config.uses_rslora},
      {"use_dora", config.uses_dora},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"init_lora_weights", true},
      {"inference_mode", true},
  };
  OrderedJson object = sorted;
  object["rank_pattern"] = std::move(rank_pattern);
  object["alpha_pattern"] = std::move(alpha_pattern);
  // older versions of PEFT do not know these keys
  if (!config.token_rows.empty()) object["trainable_token_indices"] = token_rows_json(config);
  if (!config.target_parameters.empty()) {
    object["target_parameters"] = config.target_parameters;
    if (config.target_modules.is_empty()) object["target_modules"] = json::array();
  }
  if (config.ensures_tying) object["ensure_weight_tying"] = true;
  return object.dump(2) + "\n";
}

}  // namespace plumb
