#include "apps/options/lora_options.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "io/huggingface/peft_targets.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

constexpr const char* kAllLinear = "all-linear";

/// "a b", "a,b" and several words alike, sorted.
std::vector<std::string> split_names(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (std::string word : words) {
    std::replace(word.begin(), word.end(), ',', ' ');
    std::istringstream stream(word);
    for (std::string name; stream >> name;) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// A dot alone is part of a path.
bool looks_like_regex(const std::string& text) { return text.find_first_of("\\*+?[](){}|^$") != std::string::npos; }

ModuleSelection parse_targets(const std::vector<std::string>& words) {
  if (words.size() == 1 && looks_like_regex(words[0])) return {{}, words[0]};
  std::vector<std::string> names = split_names(words);
  for (const std::string& name : names)
    if (looks_like_regex(name))
      throw_error<UsageError>("--lora_target_modules {}: a regular expression stands alone, got {} values", name,
                              names.size());
  // the names themselves, which every reader of the adapter understands
  if (std::find(names.begin(), names.end(), kAllLinear) == names.end()) return {names, ""};
  if (names.size() > 1)
    throw_error<UsageError>("--lora_target_modules: {} stands alone, got {} values", kAllLinear, names.size());
  return {linear_module_names(), ""};
}

template <class Value>
std::map<std::string, Value> parse_pattern(const std::string& text, std::string_view option) {
  std::map<std::string, Value> values;
  std::istringstream stream(text);
  for (std::string entry; std::getline(stream, entry, ',');) {
    const size_t equals = entry.rfind('=');
    Value value = 0;
    if (equals != std::string::npos && equals > 0) {
      const char *begin = entry.data() + equals + 1, *end = entry.data() + entry.size();
      const auto read = std::from_chars(begin, end, value);
      if (read.ec == std::errc() && read.ptr == end && value > 0 && value <= Value{1 << 20}) {
        if (!values.emplace(entry.substr(0, equals), value).second)
          throw_error<UsageError>("--{}: {} twice", option, entry.substr(0, equals));
        continue;
      }
    }
    throw_error<UsageError>("--{}: expected module=number,..., got '{}'", option, entry);
  }
  return values;
}

}  // namespace

void declare(OptionsDescription& description, LoraOptions& o) {
  auto add = description.add_options();
  add("lora_r", with_default(o.lora_r),
      "rank of a low-rank adapter beside the frozen model; 0: train the model itself");
  add("lora_alpha", with_default(o.lora_alpha), "the adapter counts alpha / rank times");
  add("lora_dropout", with_default(o.lora_dropout), "share of an adapter's input that a step leaves out");
  add("lora_target_modules",
      po::value(&o.lora_target_modules)
          ->multitoken()
          ->default_value(o.lora_target_modules, "q_proj k_proj v_proj o_proj"),
      "layers with an adapter: names, all-linear, or one regular expression for whole module paths");
  add("lora_rank_pattern", with_default(o.lora_rank_pattern), "module=rank,...: other ranks than lora_r");
  add("lora_alpha_pattern", with_default(o.lora_alpha_pattern), "module=alpha,...: other alphas than lora_alpha");
  add("lora_modules_to_save", po::value(&o.lora_modules_to_save)->multitoken(),
      "of embed_tokens, lm_head and score: trained whole beside the adapter, and saved with it");
  add("use_rslora", with_default(o.use_rslora), "the adapter counts alpha / sqrt(rank) times");
  add("use_dora", with_default(o.use_dora), "train the lengths of the rows as well (DoRA)");
  add("adapter", with_default(o.adapter), "PEFT adapter directory to go on from; none: a new one");
  add("quantize", choice(o.quantize, "quantize"), "none or nf4: the frozen model in 4 bits (QLoRA)");
}

void validate(const LoraOptions& o) {
  check_range(o.lora_r >= 0 && o.lora_r <= kMaxLoraRank, "lora_r", fmt::format("0 to {}", kMaxLoraRank),
              static_cast<double>(o.lora_r));
  check_range(std::isfinite(o.lora_alpha) && o.lora_alpha > 0 && o.lora_alpha <= 1e9, "lora_alpha",
              "more than 0, at most 1e9", o.lora_alpha);
  check_range(o.lora_dropout >= 0 && o.lora_dropout < 1, "lora_dropout", "0 to below 1", o.lora_dropout);
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
  add_if(!o.lora_rank_pattern.empty(), "lora_rank_pattern");
  add_if(!o.lora_alpha_pattern.empty(), "lora_alpha_pattern");
  add_if(!o.lora_modules_to_save.empty(), "lora_modules_to_save");
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
  config.rank_pattern = parse_pattern<int64_t>(o.lora_rank_pattern, "lora_rank_pattern");
  config.alpha_pattern = parse_pattern<double>(o.lora_alpha_pattern, "lora_alpha_pattern");
  std::vector<std::string> saved = o.lora_modules_to_save;
  if (task_type == "SEQ_CLS") saved.push_back("score");
  config.modules_to_save = split_names(saved);
  config.uses_rslora = o.use_rslora;
  config.uses_dora = o.use_dora;
  return config;
}

Adapter resolve_options(const LoraConfig& config, const ModelConfig& model) {
  try {
    Adapter adapter = resolve_adapter(config, model);
    check_patterns_name_targets(config, adapter);
    return adapter;
  } catch (const DataError& error) {
    throw UsageError(error.what());
  }
}

}  // namespace plumb
