// What a config.json says of quantized weights, under quantization_config. One kind is supported, NF4 of bitsandbytes:
// the matrices of the blocks in 4 bits, everything else as it was. Source: transformers, BitsAndBytesConfig.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "lib/model/config_json.hpp"

namespace plumb {

/// Whether `config`, a whole config.json, is that of a model with NF4 matrices. Throws DataError, naming what is
/// supported, for weights quantized in any other way.
bool parse_quantization_config(const ConfigReader& config);

/// The value of quantization_config with all the keys that transformers writes. compute_dtype: "bfloat16", "float16"
/// or "float32", what bitsandbytes multiplies in.
nlohmann::json render_quantization_config(bool has_nested_scales, std::string_view compute_dtype);

}  // namespace plumb
