#include "lib/model/quantization_config.hpp"

#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr const char* kKey = "quantization_config";
constexpr const char* kSupported = "of bitsandbytes in 4 bits of type nf4, the only quantized weights supported";

}  // namespace

bool parse_quantization_config(const ConfigReader& config, bool may_be_mxfp4) {
  if (config.is_null_or_absent(kKey)) return false;
  const json& object = config.object().at(kKey);
  if (!object.is_object()) config.fail(kKey, "an object or null");
  const ConfigReader reader(object, fmt::format("{}: {}", config.where(), kKey));
  const auto require = [&](bool holds, const char* key, const char* value) {
    if (!holds) reader.fail(key, fmt::format("{}, weights {}", value, kSupported));
  };
  if (may_be_mxfp4 && reader.string_or("quant_method", "") == "mxfp4") return false;
  require(reader.string_or("quant_method", "") == "bitsandbytes", "quant_method", "\"bitsandbytes\"");
  require(!reader.boolean_or("load_in_8bit", false), "load_in_8bit", "false");
  require(reader.boolean_or("load_in_4bit", false), "load_in_4bit", "true");
  require(reader.string_or("bnb_4bit_quant_type", "fp4") == "nf4", "bnb_4bit_quant_type", "\"nf4\"");
  return true;
}

json render_quantization_config(bool has_nested_scales, std::string_view compute_dtype) {
  return {
      {"_load_in_4bit", true},
      {"_load_in_8bit", false},
      {"bnb_4bit_compute_dtype", compute_dtype},
      {"bnb_4bit_quant_storage", "uint8"},
      {"bnb_4bit_quant_type", "nf4"},
      {"bnb_4bit_use_double_quant", has_nested_scales},
      {"llm_int8_enable_fp32_cpu_offload", false},
      {"llm_int8_has_fp16_weight", false},
      {"llm_int8_skip_modules", nullptr},
      {"llm_int8_threshold", 6.0},
      {"load_in_4bit", true},
      {"load_in_8bit", false},
      {"quant_method", "bitsandbytes"},
  };
}

}  // namespace plumb
