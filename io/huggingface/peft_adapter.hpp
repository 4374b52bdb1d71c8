// A PEFT adapter directory: adapter_config.json and adapter_model.safetensors. Opening it checks every tensor against
// the base model's config; weights are then read by ranges of the unit "adapter", as those of a model are. Beside the
// adapter a file may hold parameters of the base: modules that were trained in full (modules_to_save), and embedding
// and head of a base that was resized or whose embedding was adapted.
// Source: PEFT 0.21, utils/save_and_load.py, utils/other.py, tuners/lora/layer.py.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>

#include "io/huggingface/peft_config.hpp"
#include "io/huggingface/peft_targets.hpp"
#include "io/huggingface/peft_tensors.hpp"
#include "lib/model/lora.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

inline constexpr const char* kAdapterStem = "adapter_model";
inline constexpr const char* kAdapterFile = "adapter_model.safetensors";

/// Thread-safe: reads may run concurrently on any thread or rank.
class PeftAdapter {
 public:
  /// `base` is the config of the base model, with the head that the adapter is for. Throws InputOutputError if a file
  /// is missing, UsageError and DataError as parse_lora_config(), resolve_adapter() and check_peft_tensors(), and
  /// DataError for pickled weights.
  PeftAdapter(const std::string& directory, const ModelConfig& base);

  const std::string& directory() const { return directory_; }
  const LoraConfig& config() const { return config_; }
  /// The base as the adapter has it: embedding and head may be two matrices and have other numbers of rows.
  const ModelConfig& model() const { return model_; }
  const Adapter& adapter() const { return adapter_; }
  /// adapter_layout() of adapter().
  const UnitLayout& unit() const { return unit_; }

  /// As PeftTensors::read_range().
  void read_range(int64_t begin, int64_t end, std::span<float> values) const {
    tensors_.read_range(unit_, begin, end, values);
  }

  /// The adapter's part for a parameter of the base, or null.
  const Parameter* find(ParameterKind kind, int64_t layer, AdapterPart part) const;

  /// The tensor that takes the place of a parameter of the base before the adapter is applied; both pointers are null
  /// if there is none.
  StoredTensor replacement(const Parameter& parameter) const;

  /// The part with which training cannot continue, as "magnitudes (DoRA) of the head", or "" if it can.
  std::string untrainable_part() const;

 private:
  using Key = std::tuple<ParameterKind, int64_t, int64_t>;  // kind, layer, expert

  int64_t find_vocab_size(int64_t of_base) const;
  void find_replacements(bool is_base_tied);
  void share_replacement();
  void check_tensors() const;
  void check_tied_copies() const;

  std::string directory_;
  LoraConfig config_;
  PeftTensors tensors_;
  ModelConfig model_;
  Adapter adapter_;
  UnitLayout unit_;
  std::map<Key, const SafetensorsEntry*> replacements_;
};

/// True if the adapter replaces a parameter outside the blocks.
bool trains_whole(const Adapter& adapter, ParameterKind kind);

/// Reads only the config of an adapter directory. Throws as PeftAdapter.
LoraConfig read_lora_config(const std::string& directory);

}  // namespace plumb
