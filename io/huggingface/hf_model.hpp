// A model directory in Hugging Face format: config.json and safetensors weights, in one file or several with an index.
// Opening it checks every tensor against the config; weights are then read by ranges of a unit's flat buffer, so that a
// rank reads only its shard. Block matrices may be NF4, either in the files or by quantization while reading; reading
// them as float dequantizes them. A low-rank adapter can be merged into the weights while reading.
// Source: the model format of transformers and huggingface/safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/huggingface/expert_tensors.hpp"
#include "io/huggingface/nf4_tensors.hpp"
#include "io/huggingface/parameter_names.hpp"
#include "io/huggingface/quantizing_reader.hpp"
#include "io/huggingface/safetensors.hpp"
#include "io/huggingface/weight_files.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

class PeftAdapter;

struct HfModelOptions {
  /// The kind of head; by default the one in config.json. A score head can be put on any language model: if the
  /// directory has no score.weight, it is initialized from the seed, as transformers does.
  std::optional<HeadKind> head = std::nullopt;
  uint64_t seed = 42;
  /// Block matrices that are not quantized in the directory are quantized to NF4 when read, as bitsandbytes does.
  bool quantizes = false;
  bool quantizes_scales = true;  // when quantizing: the scales as well (double quantization)
  /// A PEFT adapter directory, or "". Its adapter is merged into the weights that are read.
  std::string adapter = {};
  /// Embedding and head are read as two matrices, also where they are one, for an adapter that changes them apart.
  bool unties_head = false;
};

/// Thread-safe: reads may run concurrently on any thread or rank.
class HfModel {
 public:
  /// Throws InputOutputError if the directory or one of its files is missing, DataError if plumb does not support the
  /// model or if config and weights do not match.
  explicit HfModel(const std::string& directory, HfModelOptions options = {});

  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  const std::vector<UnitLayout>& units() const { return units_; }

  /// Fills `values` with elements [begin, end) of the unit's flat buffer, reading only those. Alignment gaps and
  /// elements past num_elements are zero. NF4 is dequantized. An adapter is merged in float32, whatever the format of
  /// the base. Throws DataError for a weight that is NaN or infinite.
  void read_unit_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;

  // The NF4 functions and stored_tensor() refer to the base alone, with or without an adapter.

  /// True if any parameter is NF4, in the files or by quantization while reading.
  bool is_quantized() const { return options_.quantizes || config_.is_quantized; }
  /// Only block matrices can be quantized. A directory may leave some of them unquantized, and hold others in NF4,
  /// which are numbers as soon as they are read: bitsandbytes quantizes routers and gates, too.
  bool is_quantized(const Parameter& parameter) const;
  /// The layout of a quantized parameter.
  Nf4Layout nf4_layout_of(const Parameter& parameter) const;
  /// The dtype of a quantized parameter before quantization.
  Dtype original_dtype_of(const Parameter& parameter) const;
  /// Fills `bytes`, nf4_layout_of(parameter).num_bytes of them, with a quantized parameter. If it is quantized while
  /// reading, the matrix is in memory as float32 meanwhile. Throws DataError for a value that is NaN or infinite.
  void read_nf4(const Parameter& parameter, std::span<std::byte> bytes) const;

  /// True if an adapter is merged into the weights that are read.
  bool has_adapter() const { return adapter_ != nullptr; }

  /// The tensor of a parameter in the files. Throws DataError for a score head that was initialized from the seed.
  StoredTensor stored_tensor(const Parameter& parameter) const;

  /// True if the directory or the adapter contains the score head; false if it is initialized from the seed.
  bool has_score() const;

 private:
  void read_base_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;
  /// As transformers 5: what config.json ties is not tied if the files hold both matrices with other values; one alone,
  /// under either name, is both.
  void settle_tied_head();
  void check_parameters();
  /// True if the adapter has all values of a parameter, so that the base need not have it.
  bool is_replaced(const Parameter& parameter) const;
  std::string tensor_name_of(const Parameter& parameter) const;
  const StoredNf4* find_stored_nf4(const Parameter& parameter) const;

  std::string directory_;
  HfModelOptions options_;
  ModelConfig config_;
  std::vector<UnitLayout> units_;
  std::string shared_name_ = {};      // of the tensor that is embedding and head; "": they are two
  std::optional<WeightFiles> files_;  // always set
  std::map<std::string, StoredNf4, std::less<>> stored_nf4_;
  std::map<std::string, StoredMxfp4, std::less<>> stored_mxfp4_;
  std::unique_ptr<const Mxfp4Reader> mxfp4_reader_ = std::make_unique<Mxfp4Reader>();
  std::shared_ptr<const PeftAdapter> adapter_;                 // null: none
  std::unique_ptr<const QuantizingReader> quantizing_reader_;  // null: unquantized matrices stay unquantized
};

}  // namespace plumb
