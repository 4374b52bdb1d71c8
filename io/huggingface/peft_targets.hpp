// Resolves an adapter_config.json to layers of a model, by PEFT's rules for module names.
// Source: PEFT 0.21, check_target_module_exists and get_pattern_key.
#pragma once

#include <string>
#include <vector>

#include "io/huggingface/peft_config.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

/// PEFT's path of the module that holds a parameter: "model.layers.3.self_attn.q_proj".
std::string module_path(const Parameter& parameter);
std::string module_path(const ModelConfig& model, ParameterKind kind, int64_t layer);
/// The path of a module outside the blocks, whose name no family changes: "lm_head".
std::string outer_path(ParameterKind kind);

/// The last path component of every matrix that can be adapted ("down_proj", ...), sorted: the meaning of "all-linear".
std::vector<std::string> linear_module_names(const ModelConfig& model);

/// The same for the matrices of attention.
std::vector<std::string> attention_module_names(const ModelConfig& model);

/// "all-linear" written out as the names of the model's modules, which every reader of an adapter understands.
void name_all_linear(LoraConfig& config, const ModelConfig& model);

/// True if the adapter changes embedding and head of a base that ties them apart.
/// Source: PEFT 0.21, _check_tied_modules, set_additional_trainable_modules.
bool splits_tied_head(const LoraConfig& config);

/// The model under the adapter: `base`, with two matrices where splits_tied_head().
ModelConfig adapted_model(const LoraConfig& config, ModelConfig base);

/// A new adapter. `model`: of adapted_model(). Throws UsageError for a module that the model lacks, listing the
/// existing ones, and for one that cannot be adapted or trained; DataError for a regular expression that does not
/// compile or takes too many steps.
Adapter resolve_adapter(const LoraConfig& config, const ModelConfig& model);

/// An adapter that exists. As resolve_adapter(), except that modules that the model lacks are left out, as in PEFT: the
/// lists of a config may be made for several families, and the tensors tell what is adapted.
Adapter resolve_finished(const LoraConfig& config, const ModelConfig& model);

/// True if the parameter is of a module that modules_to_save names, or of a part of one. hf_name: in transformers.
bool saves_parameter(const LoraConfig& config, const std::string& hf_name);

/// The names in target_modules and modules_to_save that no module of the model has.
std::vector<std::string> unknown_modules(const LoraConfig& config, const ModelConfig& model);

/// Throws UsageError for a rank or alpha pattern that matches no adapted layer. PEFT ignores such patterns.
void check_patterns_name_targets(const LoraConfig& config, const Adapter& adapter, const ModelConfig& model);

}  // namespace plumb
