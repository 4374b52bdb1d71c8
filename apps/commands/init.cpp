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
#include "lib/model/parameters.hpp"

namespace plumb {

namespace po = boost::program_options;
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
auto* config_key(json& given, const char* key) {
  return po::value<T>()->notifier([&given, key](const T& value) { given[key] = value; });
}

void declare(OptionsDescription& description, InitCommand& o) {
  const auto integer = [&](const char* key) { return config_key<int64_t>(o.given, key); };
  const auto number = [&](const char* key) { return config_key<double>(o.given, key); };
  auto add = description.add_options();
  add("output_dir", po::value(&o.output_dir), "where the model is written");
  add("overwrite_output_dir", po::value(&o.overwrite_output_dir)->default_value(false, "false"),
      "replace a model that is there");
  add("model_config", po::value(&o.model_config), "a config.json to start from; the options below go before it");
  add("family", config_key<std::string>(o.given, "model_type"), "llama (default), mistral, qwen2 or qwen3");
  add("hidden_size", integer("hidden_size"), "256");
  add("num_layers", integer("num_hidden_layers"), "4");
  add("num_heads", integer("num_attention_heads"), "4");
  add("num_kv_heads", integer("num_key_value_heads"), "as many as heads");
  add("head_dim", integer("head_dim"), "hidden_size / num_heads");
  add("intermediate_size", integer("intermediate_size"), "8/3 hidden_size, up to a multiple of 64");
  add("vocab_size", integer("vocab_size"), "the tokenizer's, up to a multiple of 64");
  add("tie_word_embeddings", config_key<bool>(o.given, "tie_word_embeddings"), "one matrix for embedding and head");
  add("max_position_embeddings", integer("max_position_embeddings"), "2048");
  add("rope_theta", number("rope_theta"), "10000");
  add("initializer_range", number("initializer_range"), "standard deviation of the matrices: 0.02");
  add("tokenizer", po::value(&o.tokenizer), "a model directory whose tokenizer to take; none: a byte-level one");
  add("chat_template", po::value(&o.chat_template),
      "chatml, llama2, llama3, mistral, zephyr, alpaca or instructgpt: becomes the model's own");
  add("dtype", choice(o.dtype, "dtype"), "float32 or bfloat16: of the file");
  add("seed", po::value(&o.seed)->default_value(o.seed), "of the weights");
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

/// Those of --model_config with what was given.
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

}  // namespace

int run_init(const std::vector<std::string>& arguments) {
  InitCommand o;
  OptionsDescription description("Options, with the defaults of the numbers");
  declare(description, o);
  if (!parse_options("plumb init --output_dir DIR [--option value ...]", description, {"output_dir"}, arguments))
    return kExitDone;
  require_single_rank("init");
  if (o.seed < 0) throw_error<UsageError>("--seed: expected at least 0, got {}", o.seed);

  const NewTokenizer tokenizer =
      o.tokenizer.empty() ? make_byte_level_tokenizer(o.chat_template) : copy_tokenizer(o.tokenizer, o.chat_template);
  const ModelConfig config = make_config(o, tokenizer);
  write_random_model(o.output_dir, config, file_dtype(o.dtype), static_cast<uint64_t>(o.seed), tokenizer,
                     o.overwrite_output_dir ? ExistingDirectory::kReplace : ExistingDirectory::kRefuse);
  log_info("{}: {} parameters, {} tokens", o.output_dir, num_parameters(unit_layouts(config)), config.vocab_size);
  return kExitDone;
}

}  // namespace plumb
