// A model directory with a few thousand weights, of any family, for tests that corrupt one detail.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/file/file.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "tests/support/safetensors_file.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {

struct TinyTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using TinyTensors = std::map<std::string, TinyTensor>;

/// Sizes that are not multiples of the alignment, so that units have gaps.
inline ModelConfig tiny_config(Family family, bool ties_embeddings) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = 11;
  config.hidden_size = 12;
  config.intermediate_size = 10;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 6;
  config.max_position_embeddings = 32;
  config.sliding_window = {0, 0};
  config.ties_embeddings = ties_embeddings;
  config.has_qkv_bias = family == Family::kQwen2;
  if (family == Family::kQwen3) config.qk_norm = QkNorm::kHead;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  return config;
}

/// All values differ, none is zero, and none is exact in bfloat16.
inline TinyTensors tiny_tensors(const ModelConfig& config) {
  TinyTensors tensors;
  int64_t serial = 0;
  for (const UnitLayout& unit : unit_layouts(config))
    for (const Parameter& parameter : unit.parameters) {
      TinyTensor& tensor = tensors[hf_parameter_name(parameter)];
      tensor.shape = parameter.shape;
      for (int64_t i = 0; i < parameter.num_elements(); ++i)
        tensor.values.push_back(static_cast<float>(++serial) * 1.0001f);
    }
  return tensors;
}

inline void write_tiny_weights(const std::string& path, const TinyTensors& tensors) {
  std::vector<SafetensorsTensor> stored;
  for (const auto& [name, tensor] : tensors)
    stored.push_back({{name, Dtype::kF32, tensor.shape}, std::as_bytes(std::span(tensor.values))});
  write_safetensors_file(path, stored, {{"format", "pt"}});
}

inline void write_tiny_model(const TemporaryDirectory& directory, const ModelConfig& config) {
  directory.write("config.json", render_model_config(config, "float32"));
  write_tiny_weights(directory / "model.safetensors", tiny_tensors(config));
}

inline std::vector<float> read_whole_unit(const HfModel& model, const UnitLayout& unit) {
  std::vector<float> values(unit.num_elements, -1.0f);
  model.read_unit_range(unit, 0, unit.num_elements, values);
  return values;
}

}  // namespace plumb
