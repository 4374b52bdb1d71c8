// The keys of config.json that describe a mixture of experts.
// Source: the configuration classes of transformers 4.57 and 5.23 for mixtral, qwen2_moe, qwen3_moe and gpt_oss.
#pragma once

#include <nlohmann/json.hpp>

#include "lib/model/config_json.hpp"
#include "lib/model/families.hpp"

namespace plumb {

/// Fills config.mixture for a family that has experts; intermediate_size must be set. Throws DataError.
void parse_mixture(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config);

/// Adds the keys in the spellings of transformers 4 and 5.
void render_mixture(const ModelConfig& config, const FamilyTraits& traits, nlohmann::json& object);

}  // namespace plumb
