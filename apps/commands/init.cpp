// plumb init: a Hugging Face model directory with random weights, to train from nothing, to test and to measure with.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/options.hpp"
#include "io/file/file.hpp"
#include "io/huggingface/init_model.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/families.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxHiddenSize = 1'000'000;  // larger ones are refused with the rest of the config
constexpr int64_t kMultiple = 64;              // of sizes chosen here

struct InitCommand {
  std::string output_dir;
  bool overwrite_output_dir = false;
  std::string model_config;
  std::string tokenizer;
  std::string chat_template;
  Precision dtype = Precision::kFloat32;
  int64_t seed = 42;
  json given = json::object();  // keys of config.json, from the options that were used
};

/// An option that is a key of config.json.
template <class T>
BoundOption config_option(json& given, std::string_view name, const std::string& key, std::string_view help,
                          OptionRules rules = {}) {
  const auto set = [&given, key](std::optional<T> value) { given[key] = *value; };
  return declare_with<std::optional<T>>(name, OptionGroup::kModel, std::nullopt, set, help, rules);
}

std::vector<BoundOption> bind_options(InitCommand& o) {
  const auto integer = [&](const char* name, const char* key, const char* help) {
    return config_option<int64_t>(o.given, name, key, help);
  };
  return {
      declare("output_dir", OptionGroup::kOutput, o.output_dir, "directory of the new model", {.value_name = "DIR"}),
      overwrite_option(o.overwrite_output_dir, "replace a model that is already there"),
      declare("model_config", OptionGroup::kModel, o.model_config,
              "a config.json to start from; the options below override it", {.value_name = "FILE"}),
      config_option<std::string>(o.given, "family", "model_type", "architecture; by default llama",
                                 {.value_name = "NAME", .choices = family_names()}),
      integer("hidden_size", "hidden_size", "width of the hidden states; by default 256"),
      integer("num_layers", "num_hidden_layers", "number of layers; by default 4"),
      integer("num_heads", "num_attention_heads", "number of attention heads; by default 4"),
      integer("num_kv_heads", "num_key_value_heads", "heads of keys and values; by default as many as heads"),
      integer("head_dim", "head_dim", "width of a head; by default hidden_size / num_heads"),
      integer("intermediate_size", "intermediate_size",
              "width of the MLP; by default 8/3 hidden_size, up to a multiple of 64"),
      integer("vocab_size", "vocab_size", "rows of the embedding; by default the tokenizer's, up to a multiple of 64"),
      config_option<bool>(o.given, "tie_word_embeddings", "tie_word_embeddings", "one matrix for embedding and head"),
      integer("max_position_embeddings", "max_position_embeddings", "longest text; by default 2048"),
      config_option<double>(o.given, "rope_theta", "rope_theta", "base of the rotary embedding; by default 10000"),
      config_option<double>(o.given, "initializer_range", "initializer_range",
                            "standard deviation of the matrices; by default 0.02"),
      declare("tokenizer", OptionGroup::kModel, o.tokenizer,
              "model directory whose tokenizer is copied; by default a byte-level one", {.value_name = "DIR"}),
      chat_template_option(o.chat_template, "becomes the model's own chat template"),
      declare("dtype", OptionGroup::kOutput, o.dtype, "number format of the file"),
      declare("seed", OptionGroup::kModel, o.seed, "seed of the weights", {.range = at_least(0)}),
  };
}

/// config.json of a small Llama with what was given; absurd numbers are left for the parser to refuse.
json small_config(const json& given) {
  json config = {{"model_type", "llama"},          {"hidden_size", 256},
                 {"num_hidden_layers", 4},         {"num_attention_heads", 4},
                 {"num_key_value_heads", nullptr}, {"max_position_embeddings", 2048}};
  config.update(given);
  const auto hidden_size = std::clamp(config["hidden_size"].get<int64_t>(), int64_t{1}, kMaxHiddenSize);
  const auto num_heads = std::max(config["num_attention_heads"].get<int64_t>(), int64_t{1});
  if (!config.contains("intermediate_size"))
    config["intermediate_size"] = (hidden_size * 8 / 3 + kMultiple - 1) / kMultiple * kMultiple;
  if (!config.contains("head_dim") && hidden_size % num_heads == 0) config["head_dim"] = hidden_size / num_heads;
  return config;
}

/// The keys of --model_config, overridden by the given options.
json adapted_config(const std::string& path, const json& given) {
  json config = parse_config_object(read_text_file(path, kMaxConfigBytes), path);
  if (given.contains("rope_theta")) {
    config.erase("rope_parameters");
    config.erase("rope_scaling");
  }
  config.update(given);
  return config;
}

ModelConfig make_config(const InitCommand& o, const NewTokenizer& tokenizer) {
  try {
    json config = o.model_config.empty() ? small_config(o.given) : adapted_config(o.model_config, o.given);
    if (!config.contains("vocab_size"))
      config["vocab_size"] = (tokenizer.vocab_size + kMultiple - 1) / kMultiple * kMultiple;
    if (config["vocab_size"].is_number_integer() && config["vocab_size"] < tokenizer.vocab_size)
      throw_error<UsageError>("vocab_size: expected at least the tokenizer's {}, got {}", tokenizer.vocab_size,
                              config["vocab_size"].get<int64_t>());
    const auto id_or_null = [](int32_t id) { return id < 0 ? json() : json(id); };
    config["bos_token_id"] = id_or_null(tokenizer.bos_token_id);
    config["eos_token_id"] = id_or_null(tokenizer.eos_token_id);
    return parse_model_config(config.dump(), o.model_config.empty() ? "options" : o.model_config);
  } catch (const DataError& error) {
    throw UsageError(error.what());
  }
}

int run_init(const InitCommand& o) {
  require_single_rank("init");

  const NewTokenizer tokenizer =
      o.tokenizer.empty() ? make_byte_level_tokenizer(o.chat_template) : copy_tokenizer(o.tokenizer, o.chat_template);
  const ModelConfig config = make_config(o, tokenizer);
  write_random_model(o.output_dir, config, file_dtype(o.dtype), static_cast<uint64_t>(o.seed), tokenizer,
                     o.overwrite_output_dir ? ExistingDirectory::kReplace : ExistingDirectory::kRefuse);
  log_info("{}: {} parameters, {} tokens", o.output_dir, num_parameters(unit_layouts(config)), config.vocab_size);
  return kExitDone;
}

}  // namespace

Command init_command() {
  return make_command<InitCommand>(
      {.name = "init",
       .summary = "a model directory with random weights",
       .usage = "--output_dir DIR [--option value ...]",
       .example = "plumb init --output_dir tiny --hidden_size 128 --num_layers 2 --chat_template chatml",
       .required = {"output_dir"}},
      bind_options, run_init);
}

}  // namespace plumb
