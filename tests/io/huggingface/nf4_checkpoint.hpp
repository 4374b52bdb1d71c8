// A small NF4 checkpoint made by plumb's own writer, for tests that read it back or corrupt one detail.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/nf4_export.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {

/// The matrix that the tests inspect, of [187, 90] elements.
inline constexpr const char* kMatrix = "model.layers.1.mlp.up_proj.weight";

struct RawTensor {
  SafetensorsSpec spec;
  std::vector<std::byte> bytes;
};
using RawTensors = std::map<std::string, RawTensor>;

inline void write_raw(const std::string& path, const RawTensors& tensors) {
  std::vector<SafetensorsTensor> stored;
  for (const auto& [name, tensor] : tensors) stored.push_back({tensor.spec, tensor.bytes});
  write_safetensors_file(path, stored, {{"format", "pt"}});
}

inline RawTensors read_raw(const std::string& path) {
  const SafetensorsFile file(path);
  RawTensors tensors;
  for (const SafetensorsEntry& entry : file.entries()) {
    std::vector<std::byte> bytes(entry.num_bytes());
    file.read(entry, 0, std::span(bytes));
    tensors[entry.name] = {{entry.name, entry.dtype, entry.shape}, bytes};
  }
  return tensors;
}

/// Matrices with more scales than one group, and with incomplete blocks and groups.
inline ModelConfig small_config() {
  ModelConfig config = tiny_config(Family::kQwen2, false);
  config.hidden_size = 90;
  config.intermediate_size = 187;
  config.num_heads = 3;
  config.head_dim = 30;
  return config;
}

/// A model directory in one dtype, with values of both signs and one block of zeros.
inline void write_source(const TemporaryDirectory& directory, const std::string& name, const ModelConfig& config,
                         Dtype dtype) {
  RawTensors tensors;
  uint64_t serial = 0;
  for (const UnitLayout& unit : unit_layouts(config))
    for (const Parameter& parameter : unit.parameters) {
      RawTensor& tensor = tensors[hf_parameter_name(parameter)];
      tensor.spec = {hf_parameter_name(parameter), dtype, parameter.shape};
      tensor.bytes.resize(tensor.spec.num_bytes());
      for (int64_t i = 0; i < parameter.num_elements(); ++i) {
        const double uniform = random_uniform(3, ++serial, 0);
        const float value = i >= 64 && i < 128 ? 0.0f : static_cast<float>(uniform - 0.5) * 0.1f;
        const auto half_bits =
            static_cast<uint16_t>(value == 0 ? 0 : static_cast<int>(uniform * 0x3fff) | (i % 2 << 15));
        const uint16_t bits = dtype == Dtype::kBf16 ? float_to_bf16(value) : half_bits;
        const auto place = static_cast<size_t>(i * size_bytes(dtype));
        if (dtype == Dtype::kF32)
          std::memcpy(tensor.bytes.data() + place, &value, sizeof value);
        else
          std::memcpy(tensor.bytes.data() + place, &bits, sizeof bits);
      }
    }
  std::filesystem::create_directory(directory / name);
  directory.write(name + "/config.json", render_model_config(config, "float32"));
  write_raw(directory / name + "/model.safetensors", tensors);
}

inline void write_quantized(const HfModel& model, const std::string& target,
                            int64_t max_file_bytes = kDefaultExportFileBytes) {
  const Nf4ExportPlan plan = plan_nf4_export(model, max_file_bytes);
  AtomicDirectory exported(target);
  const std::string temporary = exported.temporary_path();
  create_export_files(plan.files, temporary);
  for (size_t i = plan.parameters.size(); i-- > 0;) write_nf4_parameter(plan, temporary, model, i);
  finish_nf4_export(plan, temporary, model);
  exported.publish();
}

inline std::vector<std::byte> read_nf4(const HfModel& model, const Parameter& parameter) {
  std::vector<std::byte> bytes(model.nf4_layout_of(parameter).num_bytes, std::byte{1});
  model.read_nf4(parameter, bytes);
  return bytes;
}

/// Calls test(unit, parameter) for every parameter.
template <class Test>
void for_each_parameter(const HfModel& model, Test test) {
  for (const UnitLayout& unit : model.units())
    for (const Parameter& parameter : unit.parameters) test(unit, parameter);
}

inline std::vector<float> read_values(const HfModel& model, const UnitLayout& unit, const Parameter& parameter) {
  std::vector<float> values(parameter.num_elements());
  model.read_unit_range(unit, parameter.offset, parameter.offset + parameter.num_elements(), values);
  return values;
}

class Nf4Checkpoint : public testing::Test {
 protected:
  /// The quantized model of a source in this dtype; leaves its files in tensors_.
  void make(Dtype dtype = Dtype::kBf16, bool is_nested = true) {
    for (const char* name : {"source", "target"}) std::filesystem::remove_all(directory_ / name);
    write_source(directory_, "source", config_, dtype);
    write_quantized(HfModel(source_, {.quantizes = true, .quantizes_scales = is_nested}), target_);
    tensors_ = read_raw(target_ + "/model.safetensors");
  }
  void rewrite() { write_raw(target_ + "/model.safetensors", tensors_); }
  RawTensor& part(const std::string& suffix) { return tensors_.at(kMatrix + suffix); }
  std::string refusal() {
    rewrite();
    return message_of<DataError>([&] { HfModel model(target_); });
  }
  nlohmann::json state() {
    const auto& bytes = part(kNf4StateSuffix).bytes;
    return nlohmann::json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  void set_state(const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    part(kNf4StateSuffix).bytes.assign(bytes.begin(), bytes.end());
    part(kNf4StateSuffix).spec.shape = {std::ssize(text)};
  }
  std::string refusal_of_state(const char* key, const nlohmann::json& value) {
    nlohmann::json changed = state();
    changed[key] = value;
    const RawTensors good = tensors_;
    set_state(changed.dump());
    std::string message = refusal();
    tensors_ = good;
    return message;
  }
  void resize(const std::string& suffix, int64_t size) {
    RawTensor& tensor = part(suffix);
    tensor.spec.shape = {size};
    tensor.bytes.resize(tensor.spec.num_bytes());
  }
  nlohmann::json config_of(const std::string& name) const {
    return nlohmann::json::parse(directory_.read(name + "/config.json"));
  }

  const ModelConfig config_ = small_config();
  TemporaryDirectory directory_;
  const std::string source_ = directory_ / "source", target_ = directory_ / "target";
  RawTensors tensors_;
};

}  // namespace plumb
