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

constexpr size_t kMaxListed = 1 << 14;
constexpr size_t kMaxPatternBytes = 4096;  // limit for a module name or an expression; messages repeat them
constexpr double kMaxAlpha = 1e9;

/// Keys that change what an adapter computes. They are accepted only while they are off.
constexpr const char* kUnsupportedKeys[] = {"lora_bias",          "fan_in_fan_out",
                                            "target_parameters",  "trainable_token_indices",
                                            "layer_replication",  "use_qalora",
                                            "use_bdlora",         "arrow_config",
                                            "kasa_config",        "alora_invocation_tokens",
                                            "megatron_config",    "monteclora_config",
                                            "ensure_weight_tying"};

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
  const auto refuse = [&](const char* key) {
    throw_error<DataError>("{}: {}: {}: not supported; plumb reads plain LoRA, rsLoRA and DoRA", reader.where(), key,
                           quote_json(reader.object().at(key)));
  };
  if (const std::string type = reader.string("peft_type"); type != "LORA") refuse("peft_type");
  for (const char* key : kUnsupportedKeys)
    if (reader.has(key) && !is_off(reader.object().at(key))) refuse(key);
  if (!reader.is_null_or_absent("bias") && reader.object().at("bias") != "none") refuse("bias");
  // other initializations replace the base weights, so that the adapter alone does not determine the model
  if (!reader.is_null_or_absent("init_lora_weights")) {
    const json& init = reader.object().at("init_lora_weights");
    if (!init.is_boolean() && init != "gaussian" && init != "eva" && init != "orthogonal") refuse("init_lora_weights");
  }
  if (!reader.is_null_or_absent("layers_pattern")) {
    const json& pattern = reader.object().at("layers_pattern");
    if (pattern != "" && pattern != "layers" && pattern != json::array() && pattern != json::array({"layers"}))
      refuse("layers_pattern");
  }
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
  if (reader.is_null_or_absent("target_modules")) config.target_modules.names = {"q_proj", "v_proj"};
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
  return object.dump(2) + "\n";
}

}  // namespace plumb
