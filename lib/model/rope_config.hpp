// The keys of a config.json that describe rotary embedding, in the spellings of transformers 4 (rope_theta,
// rope_scaling) and 5 (rope_parameters).
// Source: transformers 5.23 and 4.57, modeling_rope_utils.py.
#pragma once

#include <nlohmann/json.hpp>

#include "lib/model/config_json.hpp"
#include "lib/model/families.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

/// Sets rope and sliding_rope. Needs head_dim and max_position_embeddings.
void parse_rope(const ConfigReader& reader, const FamilyTraits& traits, ModelConfig& config);

/// Adds the keys of both spellings to `object`.
void render_rope(const ModelConfig& config, const FamilyTraits& traits, nlohmann::json& object);

}  // namespace plumb
