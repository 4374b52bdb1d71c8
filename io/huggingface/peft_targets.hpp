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

/// The last path component of every matrix that can be adapted ("down_proj", ...), sorted: the meaning of "all-linear".
std::vector<std::string> linear_module_names(const ModelConfig& model);

/// The same for the matrices of attention.
std::vector<std::string> attention_module_names(const ModelConfig& model);

/// "all-linear" written out as the names of the model's modules, which every reader of an adapter understands.
void name_all_linear(LoraConfig& config, const ModelConfig& model);

/// Throws UsageError for a module that the model lacks, listing the existing ones, for one that cannot be adapted or
/// trained, and for a rank above the smaller side of its matrix; DataError for a regular expression that does not
/// compile or takes too many steps.
Adapter resolve_adapter(const LoraConfig& config, const ModelConfig& model);

/// Throws UsageError for a rank or alpha pattern that matches no adapted layer. PEFT ignores such patterns.
void check_patterns_name_targets(const LoraConfig& config, const Adapter& adapter, const ModelConfig& model);

}  // namespace plumb
