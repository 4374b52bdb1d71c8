// NF4 checkpoints with one corrupted detail are refused with a message that names it.
#include <gtest/gtest.h>

#include <limits>

#include "tests/io/huggingface/nf4_checkpoint.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

class Nf4Refusal : public Nf4Checkpoint {};

TEST_F(Nf4Refusal, RefusesOtherBlockSizes) {
  make();
  expect_contains(refusal_of_state("blocksize", 128), {"model.safetensors", kMatrix, "blocksize", "64", "128"});
  expect_contains(refusal_of_state("nested_blocksize", 64), {kMatrix, "nested_blocksize", "256", "got 64"});
  expect_contains(refusal_of_state("quant_type", "fp4"), {kMatrix, "quant_type", "nf4", "fp4"});
  expect_contains(refusal_of_state("dtype", "float64"), {kMatrix, "dtype", "bfloat16", "float64"});
  expect_contains(refusal_of_state("shape", {90, 187}), {kMatrix, "shape", "[187, 90]", "[90,187]"});
  expect_contains(refusal_of_state("nested_dtype", "float16"), {kMatrix, "nested_dtype", "float32"});
  for (const json& bad : {json("0.5"), json(1e300), json(nullptr)})
    expect_contains(refusal_of_state("nested_offset", bad), {kMatrix, "nested_offset", "a number"});
}

TEST_F(Nf4Refusal, RefusesInvalidStateJson) {
  make();
  const RawTensors good = tensors_;
  for (const char* text : {"", "[]", "{", "{\"blocksize\":64,\"blocksize\":64}", "{}"}) {
    set_state(text);
    expect_contains(refusal(), {kMatrix, "bitsandbytes__nf4"});
    tensors_ = good;
  }
  set_state(state().dump() + std::string(1 << 20, ' '));
  expect_contains(refusal(), {kMatrix, "at most 16384 bytes"});
}

TEST_F(Nf4Refusal, RefusesMissingOrTruncatedParts) {
  make();
  const RawTensors good = tensors_;
  for (const char* suffix : {".absmax", ".quant_map", ".quant_state.bitsandbytes__nf4", ".nested_quant_map"}) {
    tensors_.erase(kMatrix + std::string(suffix));
    expect_contains(refusal(), {"model.safetensors", (kMatrix + std::string(suffix)).c_str(), "got none"});
    tensors_ = good;
  }
  tensors_.erase(kMatrix + std::string(".nested_absmax"));
  expect_contains(refusal(), {kMatrix, "nested_absmax", "no"});
  tensors_ = good;
  resize(".absmax", 200);
  expect_contains(refusal(), {"up_proj.weight.absmax", "expected U8 of [263]", "got U8 of [200]"});
  tensors_ = good;
  resize(".nested_absmax", 1);
  expect_contains(refusal(), {"up_proj.weight.nested_absmax", "expected F32 of [2]", "got F32 of [1]"});
  tensors_ = good;
  resize(".nested_quant_map", 255);
  expect_contains(refusal(), {"up_proj.weight.nested_quant_map", "expected F32 of [256]"});
  tensors_ = good;
  part("").spec.shape = {8000, 1};
  part("").bytes.resize(8000);
  expect_contains(refusal(), {kMatrix, "8415 bytes", "[8000, 1]"});
  make(Dtype::kF32, false);
  resize(".absmax", 262);
  expect_contains(refusal(), {"up_proj.weight.absmax", "expected F32 of [263]", "got F32 of [262]"});
}

TEST_F(Nf4Refusal, RefusesOtherCodeMaps) {
  make();
  const RawTensors good = tensors_;
  part(".quant_map").bytes[20] ^= std::byte{1};
  expect_contains(refusal(), {"up_proj.weight.quant_map", "number 5", "NF4"});
  tensors_ = good;
  const float infinity = std::numeric_limits<float>::infinity();
  std::memcpy(part(".nested_quant_map").bytes.data() + 40, &infinity, sizeof infinity);
  expect_contains(refusal(), {"up_proj.weight.nested_quant_map", "element 10", "finite"});
}

TEST_F(Nf4Refusal, NamesTheNonFiniteScale) {
  const float bad = std::numeric_limits<float>::quiet_NaN();
  for (const bool is_nested : {true, false}) {
    make(Dtype::kBf16, is_nested);
    std::memcpy(part(is_nested ? ".nested_absmax" : ".absmax").bytes.data() + 4, &bad, sizeof bad);
    rewrite();
    const HfModel model(target_);
    for_each_parameter(model, [&](const UnitLayout& unit, const Parameter& parameter) {
      if (hf_parameter_name(parameter) != kMatrix) return;
      expect_contains(message_of<DataError>([&] { read_nf4(model, parameter); }), {kMatrix, "absmax", "element 1"});
      expect_contains(message_of<DataError>([&] { read_values(model, unit, parameter); }), {kMatrix, "element 1"});
    });
  }
}

TEST_F(Nf4Refusal, RefusesOtherQuantizations) {
  make();
  const json good = config_of("target");
  const auto refusal_of_config = [&](const char* key, const json& value) {
    json changed = good;
    changed["quantization_config"][key] = value;
    directory_.write("target/config.json", changed.dump());
    return refusal();
  };
  expect_contains(refusal_of_config("quant_method", "gptq"), {"quant_method", "gptq", "bitsandbytes", "nf4", "only"});
  expect_contains(refusal_of_config("bnb_4bit_quant_type", "fp4"), {"bnb_4bit_quant_type", "fp4", "nf4", "only"});
  expect_contains(refusal_of_config("load_in_8bit", true), {"load_in_8bit", "nf4"});
  expect_contains(refusal_of_config("load_in_4bit", false), {"load_in_4bit", "nf4"});
  directory_.write("target/config.json", good.dump());
  RawTensors fp4;
  for (auto& [name, tensor] : tensors_) {
    RawTensor& renamed =
        fp4[name == kMatrix + std::string(kNf4StateSuffix) ? name.substr(0, name.size() - 3) + "fp4" : name];
    renamed = tensor;
    if (name.ends_with(kNf4StateSuffix) && name.starts_with(kMatrix))
      renamed.spec.name = name.substr(0, name.size() - 3) + "fp4";
  }
  tensors_ = fp4;
  expect_contains(refusal(), {kMatrix, "nf4", "fp4"});
}

TEST_F(Nf4Refusal, RefusesFilesThatContradictTheConfig) {
  make();
  json config = config_of("target");
  config.erase("quantization_config");
  directory_.write("target/config.json", config.dump());
  expect_contains(refusal(), {"14 of another shape or dtype", "got U8 of"});
  directory_.write("source/config.json", [&] {
    json changed = config_of("source");
    changed["quantization_config"] = {
        {"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
    return changed.dump();
  }());
  expect_contains(message_of<DataError>([&] { HfModel model(source_); }), {"source", "NF4", "got none"});
}

}  // namespace
}  // namespace plumb
