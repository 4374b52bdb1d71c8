#include "io/huggingface/peft_targets.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "io/huggingface/module_selection.hpp"
#include "io/huggingface/parameter_names.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

using enum ParameterKind;

constexpr std::string_view kAllLinear = "all-linear";

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

bool is_all_linear(const ModuleSelection& selection) {
  std::string lower = selection.regex;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower == kAllLinear;
}

/// The names of the matrices of a block that are chosen.
template <class Chosen>
std::vector<std::string> sorted_names(const ModelConfig& model, Chosen is_chosen) {
  std::vector<std::string> names;
  for (int64_t layer = 0; layer < model.num_layers; ++layer)
    for (const ParameterKind kind : block_matrices(model, layer))
      if (is_chosen(kind)) names.push_back(last_name(module_path(model, kind, layer)));
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

/// The matrices outside the blocks.
std::vector<ParameterKind> outer_kinds(const ModelConfig& model) {
  return {kEmbedding, model.head == HeadKind::kScore ? kScore : kHead};
}

/// The modules that may be adapted: embedding and head or score, then the matrices of the blocks; those of experts are
/// parameters and no modules.
struct Candidates {
  std::vector<LoraTarget> targets;
  std::vector<std::string> paths;
};

Candidates find_candidates(const ModelConfig& model) {
  Candidates candidates;
  const auto add = [&](ParameterKind kind, int64_t layer) {
    candidates.targets.push_back({kind, layer, 0, 0});
    const Parameter parameter{kind, layer, {}, 0, AdapterPart::kWhole, naming_of(model)};
    candidates.paths.push_back(is_of_experts(candidates.targets.back()) ? hf_parameter_name(parameter)
                                                                        : module_path(parameter));
  };
  for (const ParameterKind kind : outer_kinds(model)) add(kind, -1);
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const ParameterKind kind : block_matrices(model, layer)) add(kind, layer);
    if (!model.is_mixture(layer)) continue;
    for (const ParameterKind kind : {kExpertsGateUp, kExpertsDown}) add(kind, layer);
  }
  return candidates;
}

/// A name in modules_to_save matches the end of a path.
bool saves_module(const LoraConfig& config, const std::string& path) {
  return std::any_of(config.modules_to_save.begin(), config.modules_to_save.end(),
                     [&](const std::string& name) { return path.ends_with(name); });
}

/// True if token rows of the module of this path are trained; sets `tokens` to them.
bool find_token_rows(const LoraConfig& config, const std::string& path, std::vector<int64_t>& tokens) {
  for (const auto& [name, rows] : config.token_rows)
    if (path.ends_with(name)) return tokens = rows, true;
  return false;
}

/// True if the module of this path, or one that holds it, is trained in full.
bool is_within_saved_module(const LoraConfig& config, const std::string& path) {
  return std::any_of(config.modules_to_save.begin(), config.modules_to_save.end(), [&](const std::string& name) {
    return ("." + path + ".").find("." + name + ".") != std::string::npos;
  });
}

/// For each candidate, whether it gets a low-rank adapter.
std::vector<bool> find_targets(const LoraConfig& config, const Candidates& candidates) {
  const ModuleSelection& selection = config.target_modules;
  const std::vector<std::string>& paths = candidates.paths;
  std::vector<bool> is_target(paths.size(), true);
  if (is_all_linear(selection)) {
    for (size_t i = 0; i < paths.size(); ++i) is_target[i] = candidates.targets[i].layer >= 0;
  } else {
    is_target = select_modules(selection, paths, "target_modules");
  }
  const std::vector<bool> is_excluded = select_modules(config.exclude_modules, paths, "exclude_modules");
  const std::vector<int64_t>& layers = config.layers_to_transform;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (is_of_experts(candidates.targets[i])) {  // in PEFT neither layers nor exclusions concern parameters
      is_target[i] = std::any_of(config.target_parameters.begin(), config.target_parameters.end(),
                                 [&](const std::string& name) { return names_module(name, paths[i]); });
      continue;
    }
    // in PEFT a whole path in the list, as lm_head is one, does not depend on the layers
    const bool has_layer = layers.empty() ||
                           std::count(layers.begin(), layers.end(), candidates.targets[i].layer) > 0 ||
                           std::count(selection.names.begin(), selection.names.end(), paths[i]) > 0;
    is_target[i] = is_target[i] && has_layer && !is_excluded[i] && !is_within_saved_module(config, paths[i]);
  }
  return is_target;
}

std::vector<std::string> unknown_targets(const LoraConfig& config, const std::vector<std::string>& paths) {
  std::vector<std::string> unknown;
  for (const std::string& name : config.target_modules.names)
    if (std::none_of(paths.begin(), paths.end(), [&](const auto& path) { return names_module(name, path); }))
      unknown.push_back(name);
  return unknown;
}

void check_parameters(const LoraConfig& config, const Candidates& candidates) {
  for (const std::string& name : config.target_parameters) {
    bool is_known = false;
    for (size_t i = 0; i < candidates.paths.size(); ++i)
      is_known = is_known || (is_of_experts(candidates.targets[i]) && names_module(name, candidates.paths[i]));
    if (!is_known)
      throw_error<UsageError>(
          "target_parameters: {}: expected mlp.experts.gate_up_proj and mlp.experts.down_proj of a mixture of experts; "
          "name layers in target_modules",
          name);
  }
}

[[noreturn]] void refuse_unknown(const std::string& name, const ModelConfig& model) {
  const std::vector<std::string> known = linear_module_names(model);
  throw_error<UsageError>("target_modules: {}: no such module; the model has {} (all-linear: all of them){}", name,
                          fmt::join(known, ", "), did_you_mean(name, known));
}

[[noreturn]] void refuse_score_target(const std::string& path) {
  throw_error<UsageError>(
      "target_modules: {}: expected no low-rank adapter of it, since a score is trained whole with every adapter; "
      "leave it out",
      last_name(path));
}

void check_experts(const LoraConfig& config, const std::vector<LoraTarget>& targets) {
  const auto count = [&](ParameterKind kind) {
    return std::count_if(targets.begin(), targets.end(), [&](const LoraTarget& target) { return target.kind == kind; });
  };
  const auto num_gate_up = count(kExpertsGateUp), num_down = count(kExpertsDown);
  if (num_gate_up != num_down)
    throw_error<UsageError>(
        "target_parameters: expected both mlp.experts.gate_up_proj and mlp.experts.down_proj, got one of them alone");
  if (num_down > 0 && (config.lora_dropout > 0 || config.uses_dora))
    throw_error<UsageError>("target_parameters: expected lora_dropout 0 and no DoRA beside it, as in PEFT");
}

/// All targets, those outside the blocks first.
std::vector<LoraTarget> resolve_targets(const LoraConfig& config, const ModelConfig& model) {
  const Candidates candidates = find_candidates(model);
  check_parameters(config, candidates);
  const std::vector<std::string>& paths = candidates.paths;
  const std::vector<bool> is_target = find_targets(config, candidates);
  const auto ranks = apply_pattern(config.rank_pattern, paths, config.r, "rank_pattern");
  const auto alphas = apply_pattern(config.alpha_pattern, paths, config.lora_alpha, "alpha_pattern");
  std::vector<LoraTarget> chosen;
  for (size_t i = 0; i < paths.size(); ++i) {
    if (!is_target[i]) continue;
    LoraTarget target = candidates.targets[i];
    if (target.kind == kScore) refuse_score_target(paths[i]);
    // one adapter is beside both uses of a matrix that remains tied
    if (target.kind == kHead && model.shares_head()) target.kind = kEmbedding;
    if (!chosen.empty() && chosen.back().kind == target.kind && chosen.back().layer == target.layer) continue;
    target.rank = ranks[i] * (is_of_experts(target) ? model.mixture.num_experts : 1);
    const auto rank = static_cast<double>(ranks[i]);
    target.scaling = alphas[i] / (config.uses_rslora ? std::sqrt(rank) : rank);
    chosen.push_back(target);
  }
  check_experts(config, chosen);
  if (chosen.empty())
    throw_error<UsageError>(
        "target_modules: expected a layer to adapt, got none that matches; the model has {} in {} "
        "layers",
        fmt::join(linear_module_names(model), ", "), model.num_layers);
  return chosen;
}

[[noreturn]] void refuse_saved(const std::string& name, const std::vector<ParameterKind>& kinds) {
  const auto name_of = [](ParameterKind kind) { return last_name(outer_path(kind)); };
  throw_error<UsageError>("modules_to_save: {}: expected one of {}, {}, {}; this model has {} and {}", name,
                          name_of(kEmbedding), name_of(kHead), name_of(kScore), name_of(kinds[0]), name_of(kinds[1]));
}

/// PEFT always lists "classifier" next to "score".
bool is_classifier_name(const LoraConfig& config, const std::string& name) {
  return name == "classifier" && config.task_type == "SEQ_CLS";
}

/// unknown: the names that are no module that can be trained in full.
std::vector<ParameterKind> resolve_whole(const LoraConfig& config, const ModelConfig& model,
                                         std::vector<std::string>& unknown) {
  const std::vector<ParameterKind> kinds = outer_kinds(model);
  const bool is_classifier = model.head == HeadKind::kScore && config.task_type == "SEQ_CLS";
  std::vector<bool> is_whole = {false, is_classifier};  // PEFT trains and saves the head of a SEQ_CLS model
  for (const std::string& name : config.modules_to_save) {
    if (is_classifier_name(config, name)) continue;
    const auto found =
        std::find_if(kinds.begin(), kinds.end(), [&](ParameterKind kind) { return outer_path(kind).ends_with(name); });
    if (found == kinds.end())
      unknown.push_back(name);
    else
      is_whole[found - kinds.begin()] = true;
  }
  if (model.shares_head()) is_whole = {is_whole[0] || is_whole[1], false};
  std::vector<ParameterKind> whole;
  for (size_t i = 0; i < kinds.size(); ++i)
    if (is_whole[i]) whole.push_back(kinds[i]);
  return whole;
}

std::vector<AdapterRows> resolve_rows(const LoraConfig& config, const ModelConfig& model) {
  std::vector<AdapterRows> rows;
  for (const auto& [name, tokens] : config.token_rows) {
    const std::vector<ParameterKind> kinds = {kEmbedding, kHead};
    const auto found = std::find_if(kinds.begin(), kinds.end(),
                                    [&, &name = name](ParameterKind kind) { return outer_path(kind).ends_with(name); });
    if (found == kinds.end() || (*found == kHead && model.head == HeadKind::kScore))
      throw_error<UsageError>("trainable_token_indices: {}: no such module; the model has embed_tokens{}", name,
                              model.head == HeadKind::kScore ? "" : " and lm_head");
    const ParameterKind kind = model.shares_head() ? kEmbedding : *found;
    for (const int64_t token : tokens)
      if (token >= model.vocab_size)
        throw_error<UsageError>("trainable_token_indices: {}: expected tokens below {}, got {}; was the base resized?",
                                name, model.vocab_size, token);
    const auto known = std::find_if(rows.begin(), rows.end(), [&](const AdapterRows& r) { return r.kind == kind; });
    if (known == rows.end()) {
      rows.push_back({kind, tokens});
    } else if (known->tokens != tokens) {
      throw_error<UsageError>(
          "trainable_token_indices: {}: expected the tokens of both modules to be the same, as they are one matrix",
          name);
    }
  }
  std::sort(rows.begin(), rows.end(), [](const AdapterRows& a, const AdapterRows& b) { return a.kind < b.kind; });
  return rows;
}

/// A matrix is trained in one way.
void check_one_way(const Adapter& adapter) {
  const std::vector<ParameterKind>& whole = adapter.whole;
  const auto check_kind = [&](ParameterKind kind, const char* key, bool is_other_way, const char* other) {
    if (is_other_way)
      throw_error<UsageError>("{}: {}: expected it without {}, got both", key, last_name(outer_path(kind)), other);
  };
  for (const LoraTarget& target : adapter.outer_targets)
    check_kind(target.kind, "target_modules", std::count(whole.begin(), whole.end(), target.kind) > 0,
               "modules_to_save");
  for (const AdapterRows& rows : adapter.rows) {
    constexpr const char* kKey = "trainable_token_indices";
    check_kind(rows.kind, kKey, std::count(whole.begin(), whole.end(), rows.kind) > 0, "modules_to_save");
    check_kind(rows.kind, kKey,
               std::any_of(adapter.outer_targets.begin(), adapter.outer_targets.end(),
                           [&](const LoraTarget& target) { return target.kind == rows.kind; }),
               "target_modules");
  }
}

}  // namespace

std::string module_path(const Parameter& parameter) {
  const std::string name = hf_parameter_name(parameter);
  return name.substr(0, name.rfind('.'));
}

std::string module_path(const ModelConfig& model, ParameterKind kind, int64_t layer) {
  return module_path({kind, layer, {}, 0, AdapterPart::kWhole, naming_of(model)});
}

std::string outer_path(ParameterKind kind) { return module_path({kind, -1, {}, 0}); }

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

bool splits_tied_head(const LoraConfig& config) {
  if (config.ensures_tying) return false;
  const Candidates both = {{{kEmbedding, -1, 0, 0}, {kHead, -1, 0, 0}}, {outer_path(kEmbedding), outer_path(kHead)}};
  const std::vector<bool> is_target = find_targets(config, both);
  for (size_t i = 0; i < both.paths.size(); ++i)
    if (saves_module(config, both.paths[i]) || is_target[i]) return true;
  std::vector<int64_t> of_embedding, of_head;
  const bool has_embedding = find_token_rows(config, both.paths[0], of_embedding);
  return find_token_rows(config, both.paths[1], of_head) && (!has_embedding || of_embedding != of_head);
}

ModelConfig adapted_model(const LoraConfig& config, ModelConfig base) {
  if (base.shares_head() && splits_tied_head(config)) base.ties_embeddings = false;
  return base;
}

bool saves_parameter(const LoraConfig& config, const std::string& hf_name) {
  for (size_t end = hf_name.find('.'); end != std::string::npos; end = hf_name.find('.', end + 1))
    if (saves_module(config, hf_name.substr(0, end))) return true;
  return false;
}

std::vector<std::string> unknown_modules(const LoraConfig& config, const ModelConfig& model) {
  ModelConfig untied = model;  // which also has a head
  untied.ties_embeddings = false;
  std::vector<std::string> unknown = unknown_targets(config, find_candidates(model).paths);
  for (const std::string& name : config.modules_to_save) {
    LoraConfig alone;
    alone.modules_to_save = {name};
    bool is_known = is_classifier_name(config, name);
    for (const UnitLayout& unit : unit_layouts(untied))
      for (const Parameter& parameter : unit.parameters)
        is_known = is_known || saves_parameter(alone, hf_parameter_name(parameter));
    if (!is_known) unknown.push_back(name);
  }
  return unknown;
}

Adapter resolve_adapter(const LoraConfig& config, const ModelConfig& model) {
  if (!is_all_linear(config.target_modules))
    for (const std::string& name : unknown_targets(config, find_candidates(model).paths)) refuse_unknown(name, model);
  std::vector<std::string> unknown;
  resolve_whole(config, model, unknown);
  if (!unknown.empty()) refuse_saved(unknown.front(), outer_kinds(model));
  Adapter adapter = resolve_finished(config, model);
  if (adapter.has_magnitudes && !adapter.outer_targets.empty())
    throw_error<UsageError>(
        "use_dora: expected no {} in target_modules beside it, as its magnitudes are not trained; leave one of them "
        "out, or train it whole with lora_modules_to_save {}",
        last_name(outer_path(adapter.outer_targets.front().kind)),
        last_name(outer_path(adapter.outer_targets.front().kind)));
  return adapter;
}

Adapter resolve_finished(const LoraConfig& config, const ModelConfig& model) {
  check(!model.shares_head() || !splits_tied_head(config), "the model is the one under the adapter");
  Adapter adapter;
  for (const LoraTarget& target : resolve_targets(config, model))
    (target.layer < 0 ? adapter.outer_targets : adapter.targets).push_back(target);
  if (config.uses_dora && !adapter.outer_targets.empty() && adapter.outer_targets.front().kind == kEmbedding)
    throw_error<UsageError>(
        "use_dora: embed_tokens: not supported for the embedding; leave it out of a new adapter, or merge one that "
        "exists "
        "with PEFT (merge_and_unload, save_pretrained) and give the result as --model");
  std::vector<std::string> unknown;  // unknown_modules()
  adapter.whole = resolve_whole(config, model, unknown);
  adapter.has_magnitudes = config.uses_dora;
  adapter.dropout = config.lora_dropout;
  adapter.rows = resolve_rows(config, model);
  check_one_way(adapter);
  return adapter;
}

void check_patterns_name_targets(const LoraConfig& config, const Adapter& adapter, const ModelConfig& model) {
  std::vector<std::string> paths;
  for (const std::vector<LoraTarget>* targets : {&adapter.targets, &adapter.outer_targets})
    for (const LoraTarget& target : *targets)
      paths.push_back(is_of_experts(target)
                          ? hf_parameter_name({target.kind, target.layer, {}, 0, AdapterPart::kWhole, naming_of(model)})
                          : module_path(model, target.kind, target.layer));
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
