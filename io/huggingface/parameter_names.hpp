// The tensor names of transformers: what differs between families is decided here.
// Source: the modeling files of transformers.
#pragma once

#include <string>

#include "lib/model/parameters.hpp"

namespace plumb {

/// "model.layers.3.self_attn.q_proj.weight"
std::string hf_parameter_name(const Parameter& parameter);

}  // namespace plumb
