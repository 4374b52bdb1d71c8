// The key quantization_config of a config.json. NF4 of bitsandbytes is supported: block matrices in 4 bits, everything
// else unquantized. MXFP4, in which gpt-oss is published, is dequantized when it is read.
// Source: transformers, BitsAndBytesConfig.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "lib/model/config_json.hpp"

namespace plumb {

/// True if `config`, a whole config.json, describes a model with NF4 matrices. Throws DataError, listing what is
/// supported, for weights quantized in any other way; may_be_mxfp4: except MXFP4.
bool parse_quantization_config(const ConfigReader& config, bool may_be_mxfp4);

/// The value of quantization_config with all keys that transformers writes. compute_dtype: "bfloat16", "float16" or
/// "float32", the dtype in which bitsandbytes multiplies.
nlohmann::json render_quantization_config(bool has_nested_scales, std::string_view compute_dtype);

}  // namespace plumb
