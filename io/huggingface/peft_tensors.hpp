// The tensors of a PEFT adapter's file, under the names that PEFT's save_pretrained gives them. Files of other origin
// (a state dict that was saved as it is, a wrapped model) have the name of the adapter within the names of its tensors,
// or more before them. Source: PEFT 0.21, utils/save_and_load.py, tuners/lora/layer.py.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "io/huggingface/safetensors.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
std::string peft_tensor_name(const Parameter& parameter);

/// A name as PEFT writes it, and the name of the adapter that was within ("default"), or "".
struct PeftName {
  std::string name;
  std::string adapter;
  bool operator==(const PeftName&) const = default;
};
PeftName parse_peft_name(std::string_view stored);

/// Thread-safe: reads may run concurrently on any thread or rank.
class PeftTensors {
 public:
  /// Throws as SafetensorsFile, and DataError if the file holds several adapters, or one tensor twice with different
  /// values.
  explicit PeftTensors(const std::string& path);

  const SafetensorsFile& file() const { return file_; }
  const std::map<std::string, const SafetensorsEntry*, std::less<>>& entries() const { return entries_; }
  /// Null if there is no such tensor.
  const SafetensorsEntry* find(std::string_view name) const;

  /// Fills `values` with elements [begin, end) of the unit's flat buffer. Alignment gaps and elements past num_elements
  /// are zero. Throws DataError for a weight that is NaN or infinite.
  void read_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;

 private:
  SafetensorsFile file_;
  std::map<std::string, const SafetensorsEntry*, std::less<>> entries_;
};

/// Throws DataError that lists the tensors of the unit that are missing or have another shape, and `extra` ones.
void check_peft_tensors(const PeftTensors& tensors, const UnitLayout& unit, std::span<const std::string> extra);

}  // namespace plumb
