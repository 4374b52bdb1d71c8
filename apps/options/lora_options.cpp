#include "apps/options/lora_options.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <sstream>
#include <utility>

#include "io/huggingface/peft_targets.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr const char* kAllLinear = "all-linear";

std::vector<std::string> sorted_names(const std::vector<std::string>& words) {
  std::vector<std::string> names = split_items(words);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// A dot alone is part of a path.
bool looks_like_regex(const std::string& text) { return text.find_first_of("\\*+?[](){}|^$") != std::string::npos; }

ModuleSelection parse_targets(const std::vector<std::string>& words) {
  if (words.size() == 1 && looks_like_regex(words[0])) return {{}, words[0]};
  std::vector<std::string> names = sorted_names(words);
  for (const std::string& name : names)
    if (looks_like_regex(name))
      throw_error<UsageError>("--lora_target_modules {}: expected a regular expression alone, got {} values", name,
                              names.size());
  if (std::find(names.begin(), names.end(), kAllLinear) == names.end()) return {names, ""};
  if (names.size() > 1)
    throw_error<UsageError>("--lora_target_modules: expected {} alone, got {} values", kAllLinear, names.size());
  return {{}, std::string(kAllLinear)};
}

template <class Value>
ModulePatterns<Value> parse_pattern(const std::string& text, std::string_view option) {
  ModulePatterns<Value> values;
  std::istringstream stream(text);
  for (std::string entry; std::getline(stream, entry, ',');) {
    const size_t equals = entry.rfind('=');
    Value value = 0;
    if (equals != std::string::npos && equals > 0) {
      const char *begin = entry.data() + equals + 1, *end = entry.data() + entry.size();
      const auto read = std::from_chars(begin, end, value);
      if (read.ec == std::errc() && read.ptr == end && value > 0 && value <= Value{1 << 20}) {
        const std::string pattern = entry.substr(0, equals);
        if (std::any_of(values.begin(), values.end(), [&](const auto& known) { return known.first == pattern; }))
          throw_error<UsageError>("--{}: {} twice", option, pattern);
        values.emplace_back(pattern, value);
        continue;
      }
    }
    throw_error<UsageError>("--{}: expected module=number,..., got '{}'", option, entry);
  }
  return values;
}

/// A number without a module before it is a row of the embedding, as in PEFT.
std::vector<std::pair<std::string, std::vector<int64_t>>> parse_token_rows(const std::vector<std::string>& words) {
  constexpr int64_t kMaxToken = 1 << 30;
  std::vector<std::pair<std::string, std::vector<int64_t>>> rows;
  for (const std::string& item : split_items(words)) {
    const size_t equals = item.find('=');
    const std::string number = equals == std::string::npos ? item : item.substr(equals + 1);
    if (rows.empty() || equals != std::string::npos) rows.emplace_back("embed_tokens", std::vector<int64_t>());
    if (equals != std::string::npos) rows.back().first = item.substr(0, equals);
    int64_t token = -1;
    const char *begin = number.data(), *end = begin + number.size();
    const auto read = std::from_chars(begin, end, token);
    if (read.ec != std::errc() || read.ptr != end || token < 0 || token > kMaxToken || rows.back().first.empty())
      throw_error<UsageError>(
          "--lora_trainable_token_indices: expected token ids, as in 513 514 or in "
          "embed_tokens=513,514 lm_head=513,514, got '{}'",
          item);
    std::vector<int64_t>& tokens = rows.back().second;
    if (std::find(tokens.begin(), tokens.end(), token) != tokens.end())
      throw_error<UsageError>("--lora_trainable_token_indices: {} twice", token);
    tokens.push_back(token);
  }
  return rows;
}

/// Calls body(); an error in the data is one of the options here.
template <class Body>
auto with_usage_errors(Body body) {
  try {
    return body();
  } catch (const DataError& error) {
    throw UsageError(error.what());
  }
}

}  // namespace

std::vector<BoundOption> bind_options(LoraOptions& o) {
  constexpr OptionGroup kLora = OptionGroup::kLora;
  return {
      declare("lora_r", kLora, o.lora_r, "rank of a low-rank adapter on the frozen model; 0: train the model itself",
              {.range = between(0, kMaxLoraRank)}),
      declare("lora_alpha", kLora, o.lora_alpha, "the adapter is scaled by alpha / rank", {.range = above(0, 1e9)}),
      declare("lora_dropout", kLora, o.lora_dropout, "fraction of the adapter's input that a step drops",
              {.range = from_to_below(0, 1)}),
      declare("lora_target_modules", kLora, o.lora_target_modules,
              "layers with an adapter: names, all-linear, or one regular expression for whole module paths"),
      declare("lora_target_parameters", kLora, o.lora_target_parameters,
              "experts with an adapter: mlp.experts.gate_up_proj mlp.experts.down_proj"),
      declare("lora_rank_pattern", kLora, o.lora_rank_pattern, "module=rank,...: ranks other than lora_r"),
      declare("lora_alpha_pattern", kLora, o.lora_alpha_pattern, "module=alpha,...: alphas other than lora_alpha"),
      declare("lora_modules_to_save", kLora, o.lora_modules_to_save,
              "any of embed_tokens, lm_head and score: trained in full and saved with the adapter"),
      declare("lora_trainable_token_indices", kLora, o.lora_trainable_token_indices,
              "token ids, or embed_tokens=ID,... lm_head=ID,...: rows that are trained beside the adapter"),
      declare("lora_ensure_weight_tying", kLora, o.lora_ensure_weight_tying,
              "embedding and head remain one matrix where the model ties them"),
      declare("use_rslora", kLora, o.use_rslora, "scale the adapter by alpha / sqrt(rank)"),
      declare("use_dora", kLora, o.use_dora, "also train the magnitudes of the rows (DoRA)"),
      declare("adapter", kLora, o.adapter, "PEFT adapter directory whose training continues; by default a new adapter",
              {.value_name = "DIR"}),
      declare("quantize", kLora, o.quantize, "hold the frozen model in 4 bits (QLoRA)"),
  };
}

void validate(const LoraOptions& o) {
  if (o.quantize != Quantization::kNone && !o.is_used())
    throw_error<UsageError>("--quantize {}: a quantized model is frozen; give --lora_r to train an adapter",
                            name_of(o.quantize));
  if (o.lora_r > 0 && !o.adapter.empty())
    throw_error<UsageError>("--adapter {}: rank and modules are the adapter's own; leave out --lora_r", o.adapter);
  if (o.is_used() && o.adapter.empty()) lora_config(o, "", "");
}

std::string options_without_adapter(const LoraOptions& o) {
  if (o.is_used()) return "";
  const LoraOptions defaults;
  std::vector<std::string> given;
  const auto add_if = [&](bool is_given, const char* name) {
    if (is_given) given.push_back(fmt::format("--{}", name));
  };
  add_if(o.lora_alpha != defaults.lora_alpha, "lora_alpha");
  add_if(o.lora_dropout != defaults.lora_dropout, "lora_dropout");
  add_if(o.lora_target_modules != defaults.lora_target_modules, "lora_target_modules");
  add_if(!o.lora_target_parameters.empty(), "lora_target_parameters");
  add_if(!o.lora_rank_pattern.empty(), "lora_rank_pattern");
  add_if(!o.lora_alpha_pattern.empty(), "lora_alpha_pattern");
  add_if(!o.lora_modules_to_save.empty(), "lora_modules_to_save");
  add_if(!o.lora_trainable_token_indices.empty(), "lora_trainable_token_indices");
  add_if(o.lora_ensure_weight_tying, "lora_ensure_weight_tying");
  add_if(o.use_rslora, "use_rslora");
  add_if(o.use_dora, "use_dora");
  return fmt::format("{}", fmt::join(given, ", "));
}

LoraConfig lora_config(const LoraOptions& o, const std::string& task_type, const std::string& base_model) {
  LoraConfig config;
  config.base_model = base_model;
  config.task_type = task_type;
  config.r = o.lora_r;
  config.lora_alpha = o.lora_alpha;
  config.lora_dropout = o.lora_dropout;
  config.target_modules = parse_targets(o.lora_target_modules);
  config.target_parameters = sorted_names(o.lora_target_parameters);
  config.rank_pattern = parse_pattern<int64_t>(o.lora_rank_pattern, "lora_rank_pattern");
  config.alpha_pattern = parse_pattern<double>(o.lora_alpha_pattern, "lora_alpha_pattern");
  std::vector<std::string> saved = o.lora_modules_to_save;
  if (task_type == "SEQ_CLS") saved.push_back("score");
  config.modules_to_save = sorted_names(saved);
  config.token_rows = parse_token_rows(o.lora_trainable_token_indices);
  config.ensures_tying = o.lora_ensure_weight_tying;
  config.uses_rslora = o.use_rslora;
  config.uses_dora = o.use_dora;
  return config;
}

bool options_split_tied_head(const LoraOptions& o) {
  return with_usage_errors([&] { return splits_tied_head(lora_config(o, "", "")); });
}

Adapter resolve_options(const LoraConfig& config, const ModelConfig& model) {
  return with_usage_errors([&] {
    Adapter adapter = resolve_adapter(config, model);
    check_patterns_name_targets(config, adapter, model);
    return adapter;
  });
}

}  // namespace plumb
