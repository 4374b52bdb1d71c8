// Which layers of a model an adapter_config.json means: PEFT's rules for module names, on the modules of a decoder.
// Source: PEFT 0.21, check_target_module_exists and get_pattern_key.
#pragma once

#include <string>
#include <vector>

#include "io/huggingface/peft_config.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

/// "model.layers.3.self_attn.q_proj": the path by which PEFT knows the module that holds a parameter.
std::string module_path(ParameterKind kind, int64_t layer);

/// The last part of the path of every matrix that can be adapted: "down_proj", ..., sorted; what "all-linear" means.
std::vector<std::string> linear_module_names();

/// Throws UsageError for a module that the model does not have, listing those that exist, for one that cannot be
/// adapted or trained, and for a rank above the smaller side of its matrix; DataError for a regular expression that
/// does not compile or takes too long.
Adapter resolve_adapter(const LoraConfig& config, const ModelConfig& model);

/// Throws UsageError for a rank or alpha pattern that names none of the adapter's layers, which PEFT passes over.
void check_patterns_name_targets(const LoraConfig& config, const Adapter& adapter);

}  // namespace plumb
