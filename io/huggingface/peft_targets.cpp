#include "io/huggingface/peft_targets.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "io/huggingface/module_pattern.hpp"
#include "io/huggingface/parameter_names.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

using enum ParameterKind;

constexpr std::string_view kAllLinear = "all-linear";

/// The step limit for all regular expressions on all modules together, and the bounds for one match.
constexpr int64_t kTotalSteps = 1'000'000'000;
constexpr int64_t kMinSteps = 500, kMaxSteps = 1'000'000;

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

/// A name in a list matches the module of this path, and every module whose path ends in it.
bool names_module(const std::string& name, const std::string& path) {
  return path.ends_with(name) && (path.size() == name.size() || path[path.size() - name.size() - 1] == '.');
}

uint32_t steps_of_a_match(size_t num_patterns, size_t num_modules, std::string_view key) {
  const int64_t num_matches = std::max<int64_t>(1, static_cast<int64_t>(num_patterns * num_modules));
  const int64_t steps = std::min(kMaxSteps, kTotalSteps / num_matches);
  if (steps < kMinSteps)
    throw_error<DataError>("{}: expected at most {} patterns for {} modules, got {}", key,
                           kTotalSteps / kMinSteps / static_cast<int64_t>(num_modules), num_modules, num_patterns);
  return static_cast<uint32_t>(steps);
}

bool is_all_linear(const ModuleSelection& selection) {
  std::string lower = selection.regex;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower == kAllLinear;
}

/// For each of `paths`, whether it is selected.
std::vector<bool> select(const ModuleSelection& selection, const std::vector<std::string>& paths,
                         std::string_view key) {
  std::vector<bool> is_selected(paths.size(), false);
  if (!selection.regex.empty()) {
    const ModulePattern pattern(selection.regex, key, steps_of_a_match(1, paths.size(), key));
    for (size_t i = 0; i < paths.size(); ++i) is_selected[i] = pattern.matches(paths[i]);
    return is_selected;
  }
  for (size_t i = 0; i < paths.size(); ++i)
    is_selected[i] = std::any_of(selection.names.begin(), selection.names.end(),
                                 [&](const std::string& name) { return names_module(name, paths[i]); });
  return is_selected;
}

/// A key of rank_pattern or alpha_pattern, which matches the end of a path.
ModulePattern end_pattern(const std::string& expression, std::string_view key, uint32_t steps) {
  return ModulePattern(fmt::format("(.*\\.)?({})", expression), key, steps);
}

/// For each path, the value of the first pattern that matches its end, or the fallback.
template <class Value>
std::vector<Value> apply_pattern(const ModulePatterns<Value>& values, const std::vector<std::string>& paths,
                                 Value fallback, std::string_view key) {
  std::vector<Value> result(paths.size(), fallback);
  const uint32_t steps = steps_of_a_match(values.size(), paths.size(), key);
  std::vector<std::pair<ModulePattern, Value>> patterns;
  for (const auto& [expression, value] : values) patterns.emplace_back(end_pattern(expression, key, steps), value);
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto first = std::find_if(patterns.begin(), patterns.end(),
                                    [&](const auto& pattern) { return pattern.first.matches(paths[i]); });
    if (first != patterns.end()) result[i] = first->second;
  }
  return result;
}

/// The names of the matrices of a block that are chosen.
template <class Chosen>
std::vector<std::string> sorted_names(const ModelConfig& model, Chosen is_chosen) {
  std::vector<std::string> names;
  for (const ParameterKind kind : block_matrices(model))
    if (is_chosen(kind)) names.push_back(last_name(module_path(model, kind, 0)));
  std::sort(names.begin(), names.end());
  return names;
}

/// The matrices outside the blocks.
std::vector<ParameterKind> outer_kinds(const ModelConfig& model) {
  return {kEmbedding, model.head == HeadKind::kScore ? kScore : kHead};
}

[[noreturn]] void refuse_target(const std::string& path) {
  throw_error<UsageError>(
      "target_modules: {}: low-rank adapters of the embedding and the head are not supported; train it whole with "
      "lora_modules_to_save {}",
      last_name(path), last_name(path));
}

void check_names_exist(const ModuleSelection& selection, const std::vector<std::string>& paths,
                       const ModelConfig& model, std::string_view key) {
  for (const std::string& name : selection.names) {
    if (std::any_of(paths.begin(), paths.end(), [&](const auto& path) { return names_module(name, path); })) continue;
    const std::vector<std::string> known = linear_module_names(model);
    throw_error<UsageError>("{}: {}: no such module; the model has {} (all-linear: all of them){}", key, name,
                            fmt::join(known, ", "), did_you_mean(name, known));
  }
}

void check_rank(const LoraTarget& target, const ModelConfig& model, const std::string& path) {
  const std::vector<int64_t> shape = target_shape(model, target.kind);
  const int64_t limit = std::min(shape[0], shape[1]);
  if (target.rank > limit)
    throw_error<UsageError>("lora_r: {}: expected a rank of at most {} for a matrix of [{}, {}], got {}", path, limit,
                            shape[0], shape[1], target.rank);
}

std::vector<LoraTarget> resolve_targets(const LoraConfig& config, const ModelConfig& model) {
  std::vector<LoraTarget> targets;
  std::vector<std::string> paths;
  for (int64_t layer = 0; layer < model.num_layers; ++layer)
    for (const ParameterKind kind : block_matrices(model)) {
      targets.push_back({kind, layer, 0, 0});
      paths.push_back(module_path(model, kind, layer));
    }
  const size_t num_linear = paths.size();
  for (const ParameterKind kind : outer_kinds(model)) paths.push_back(module_path(model, kind, -1));

  const bool takes_all = is_all_linear(config.target_modules);
  std::vector<bool> is_target(paths.size(), takes_all);
  if (!takes_all) {
    check_names_exist(config.target_modules, paths, model, "target_modules");
    is_target = select(config.target_modules, paths, "target_modules");
  }
  const std::vector<bool> is_excluded = select(config.exclude_modules, paths, "exclude_modules");
  for (size_t i = num_linear; i < paths.size() && !takes_all; ++i) {
    // a module that is trained in full is never a target, whatever the names select
    const bool is_saved = std::any_of(config.modules_to_save.begin(), config.modules_to_save.end(),
                                      [&](const std::string& name) { return names_module(name, paths[i]); });
    if (is_target[i] && !is_excluded[i] && !is_saved) refuse_target(paths[i]);
  }
  paths.resize(num_linear);
  const auto ranks = apply_pattern(config.rank_pattern, paths, config.r, "rank_pattern");
  const auto alphas = apply_pattern(config.alpha_pattern, paths, config.lora_alpha, "alpha_pattern");
  const std::vector<int64_t>& layers = config.layers_to_transform;
  std::vector<LoraTarget> chosen;
  for (size_t i = 0; i < num_linear; ++i) {
    LoraTarget& target = targets[i];
    const bool has_layer = layers.empty() || std::find(layers.begin(), layers.end(), target.layer) != layers.end();
    if (!is_target[i] || is_excluded[i] || !has_layer) continue;
    target.rank = ranks[i];
    const auto rank = static_cast<double>(target.rank);
    target.scaling = alphas[i] / (config.uses_rslora ? std::sqrt(rank) : rank);
    check_rank(target, model, paths[i]);
    chosen.push_back(target);
  }
  if (chosen.empty())
    throw_error<UsageError>(
        "target_modules: expected a layer to adapt, got none that matches; the model has {} in {} "
        "layers",
        fmt::join(linear_module_names(model), ", "), model.num_layers);
  return chosen;
}

std::vector<ParameterKind> resolve_whole(const LoraConfig& config, const ModelConfig& model) {
  const std::vector<ParameterKind> kinds = outer_kinds(model);
  const bool is_classifier = model.head == HeadKind::kScore && config.task_type == "SEQ_CLS";
  std::vector<bool> is_whole = {false, is_classifier};  // PEFT trains and saves the head of a SEQ_CLS model
  for (const std::string& name : config.modules_to_save) {
    if (name == "classifier" && config.task_type == "SEQ_CLS") continue;  // PEFT always lists it next to "score"
    const auto found = std::find_if(kinds.begin(), kinds.end(), [&](ParameterKind kind) {
      return names_module(name, module_path(model, kind, -1));
    });
    if (found == kinds.end()) {
      const auto name_of = [&](ParameterKind kind) { return last_name(module_path(model, kind, -1)); };
      throw_error<UsageError>("modules_to_save: {}: expected one of {}, {}, {}; this model has {} and {}", name,
                              name_of(kEmbedding), name_of(kHead), name_of(kScore), name_of(kinds[0]),
                              name_of(kinds[1]));
    }
    if (model.shares_head())
      throw_error<UsageError>(
          "modules_to_save: {}: embedding and head of this model are one matrix, which an adapter would split in two; "
          "leave it out, or untie them first (tie_word_embeddings false, with a lm_head.weight)",
          name);
    is_whole[found - kinds.begin()] = true;
  }
  std::vector<ParameterKind> whole;
  for (size_t i = 0; i < kinds.size(); ++i)
    if (is_whole[i]) whole.push_back(kinds[i]);
  return whole;
}

}  // namespace

std::string module_path(const Parameter& parameter) {
  const std::string name = hf_parameter_name(parameter);
  return name.substr(0, name.rfind('.'));
}

std::string module_path(const ModelConfig& model, ParameterKind kind, int64_t layer) {
  return module_path({kind, layer, {}, 0, AdapterPart::kWhole, naming_of(model)});
}

std::vector<std::string> linear_module_names(const ModelConfig& model) {
  return sorted_names(model, [](ParameterKind) { return true; });
}

std::vector<std::string> attention_module_names(const ModelConfig& model) {
  return sorted_names(
      model, [](ParameterKind kind) { return product_of(kind) == Product::kQkv || product_of(kind) == Product::kO; });
}

void name_all_linear(LoraConfig& config, const ModelConfig& model) {
  if (is_all_linear(config.target_modules)) config.target_modules = {linear_module_names(model), ""};
}

Adapter resolve_adapter(const LoraConfig& config, const ModelConfig& model) {
  Adapter adapter;
  adapter.targets = resolve_targets(config, model);
  adapter.whole = resolve_whole(config, model);
  adapter.has_magnitudes = config.uses_dora;
  adapter.dropout = config.lora_dropout;
  return adapter;
}

void check_patterns_name_targets(const LoraConfig& config, const Adapter& adapter, const ModelConfig& model) {
  std::vector<std::string> paths;
  for (const LoraTarget& target : adapter.targets) paths.push_back(module_path(model, target.kind, target.layer));
  const auto check_pattern = [&](const std::string& expression, std::string_view key, size_t num_patterns) {
    const ModulePattern pattern = end_pattern(expression, key, steps_of_a_match(num_patterns, paths.size(), key));
    if (std::none_of(paths.begin(), paths.end(), [&](const std::string& path) { return pattern.matches(path); }))
      throw_error<UsageError>("lora_{}: {}: expected the name of a layer with an adapter, such as {}; no layer matches",
                              key, expression, paths.front());
  };
  for (const auto& entry : config.rank_pattern) check_pattern(entry.first, "rank_pattern", config.rank_pattern.size());
  for (const auto& entry : config.alpha_pattern)
    check_pattern(entry.first, "alpha_pattern", config.alpha_pattern.size());
}

}  // namespace plumb
