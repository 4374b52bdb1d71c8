// The tensor names of transformers: one table for all families.
// Source: the modeling files of transformers.
#pragma once

#include <string>
#include <vector>

#include "lib/model/parameters.hpp"

namespace plumb {

/// "model.layers.3.self_attn.q_proj.weight"
std::string hf_parameter_name(const Parameter& parameter);

/// "a, b, c and 7 more"
std::string list_some(const std::vector<std::string>& names);

}  // namespace plumb
