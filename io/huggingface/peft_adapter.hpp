// A PEFT adapter directory: adapter_config.json and adapter_model.safetensors. Opening it checks every tensor against
// the base model's config; weights are then read by ranges of the unit "adapter", as those of a model are.
// Source: PEFT 0.21, utils/save_and_load.py, tuners/lora/layer.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "io/huggingface/parameter_names.hpp"
#include "io/huggingface/peft_config.hpp"
#include "io/huggingface/peft_targets.hpp"
#include "io/huggingface/safetensors.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

inline constexpr const char* kAdapterStem = "adapter_model";
inline constexpr const char* kAdapterFile = "adapter_model.safetensors";

/// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"
std::string peft_tensor_name(const Parameter& parameter);

/// Throws DataError that lists the tensors of the unit that are missing or have another shape, and the tensors that do
/// not belong to the unit.
void check_adapter_tensors(const SafetensorsFile& file, const UnitLayout& unit);

/// Fills `values` with elements [begin, end) of the unit's flat buffer. Alignment gaps and elements past num_elements
/// are zero. Throws DataError for a weight that is NaN or infinite.
void read_adapter_range(const SafetensorsFile& file, const UnitLayout& unit, int64_t begin, int64_t end,
                        std::span<float> values);

/// Thread-safe: reads may run concurrently on any thread or rank.
class PeftAdapter {
 public:
  /// `base` is the config of the base model, with the head that the adapter is for. Throws InputOutputError if a file
  /// is missing, UsageError and DataError as parse_lora_config(), resolve_adapter() and check_adapter_tensors(), and
  /// DataError for pickled weights.
  PeftAdapter(const std::string& directory, const ModelConfig& base);

  const std::string& directory() const { return directory_; }
  const LoraConfig& config() const { return config_; }
  const Adapter& adapter() const { return adapter_; }
  const UnitLayout& unit() const { return unit_; }

  /// As read_adapter_range().
  void read_range(int64_t begin, int64_t end, std::span<float> values) const {
    read_adapter_range(file_, unit_, begin, end, values);
  }

  /// The adapter's part for a parameter of the base, or null.
  const Parameter* find(ParameterKind kind, int64_t layer, AdapterPart part) const;

 private:
  std::string directory_;
  LoraConfig config_;
  Adapter adapter_;
  UnitLayout unit_;
  SafetensorsFile file_;
};

/// True if the adapter replaces a parameter outside the blocks.
bool trains_whole(const Adapter& adapter, ParameterKind kind);

/// Reads only the config of an adapter directory. Throws as PeftAdapter.
LoraConfig read_lora_config(const std::string& directory);

}  // namespace plumb
