// A model directory as Hugging Face writes it: config.json and safetensors weights, one file or several with an index.
// Every tensor is checked against the config when the directory is opened; weights are then read by ranges of a unit's
// flat buffer, so that a rank loads its shard and nothing else. Matrices of blocks may be NF4, in the files or by
// quantizing what is read; whoever does not ask for the NF4 itself gets dequantized values. A low-rank adapter can be
// merged into what is read.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/huggingface/nf4_tensors.hpp"
#include "io/huggingface/parameter_names.hpp"
#include "io/huggingface/quantizing_reader.hpp"
#include "io/huggingface/safetensors.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

class PeftAdapter;

struct HfModelOptions {
  /// Which head is wanted; by default the one that config.json names. A score head can be put on any language model:
  /// where the directory holds no score.weight it is drawn from the seed, as transformers draws it.
  std::optional<HeadKind> head = std::nullopt;
  uint64_t seed = 42;
  /// Matrices of blocks that the directory holds as numbers become NF4 when they are read, as bitsandbytes makes it.
  bool quantizes = false;
  bool quantizes_scales = true;  // in what it makes NF4, the scales as well (double quantization)
  /// A PEFT adapter directory; "": none. Whoever reads gets the model with the adapter in its weights.
  std::string adapter = {};
};

/// Reads may run at the same time on any thread or rank.
class HfModel {
 public:
  /// Throws InputOutputError if the directory or a file of it is missing, DataError if config and weights are not a
  /// model that plumb supports or do not belong together.
  explicit HfModel(const std::string& directory, HfModelOptions options = {});

  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  const std::vector<UnitLayout>& units() const { return units_; }

  /// Fills `values` with elements [begin, end) of the unit's flat buffer, reading only those; gaps of alignment and
  /// what lies past num_elements are zero. NF4 is dequantized. Throws DataError on a weight that is NaN or infinite.
  /// With an adapter, its weights are merged in float32, whatever the format of the base.
  void read_unit_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;

  // Of NF4 as of files: the base alone, whether or not there is an adapter.

  /// Whether any parameter is NF4, in the files or once it is read.
  bool is_quantized() const { return options_.quantizes || config_.is_quantized; }
  /// Only matrices of blocks ever are. A directory may leave some of them as numbers.
  bool is_quantized(const Parameter& parameter) const;
  /// Of a quantized parameter.
  Nf4Layout nf4_layout_of(const Parameter& parameter) const;
  /// Of a quantized parameter: what its matrix was before.
  Dtype original_dtype_of(const Parameter& parameter) const;
  /// Of a quantized parameter: fills its bytes, as many as nf4_layout_of() says. Where it has to be quantized now, the
  /// matrix is in memory as float32 meanwhile. Throws DataError on what is NaN or infinite.
  void read_nf4(const Parameter& parameter, std::span<std::byte> bytes) const;

  /// Whether what is read has an adapter merged into it.
  bool has_adapter() const { return adapter_ != nullptr; }

  /// Where the tensor of a parameter is, as the files have it. Throws DataError for a score head that the seed made.
  StoredTensor stored_tensor(const Parameter& parameter) const;

  /// Of a score head: whether the directory or the adapter holds it; otherwise the seed made it.
  bool has_score() const;

 private:
  void read_base_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;
  void open_single_file();
  void open_indexed_files();
  void check_parameters();
  StoredTensor find_tensor(std::string_view name) const;
  const StoredNf4* find_stored_nf4(const Parameter& parameter) const;
  bool has_tensor(std::string_view name) const { return files_by_tensor_.contains(name); }
  const SafetensorsFile& file_of(std::string_view tensor) const;

  std::string directory_;
  HfModelOptions options_;
  ModelConfig config_;
  std::vector<UnitLayout> units_;
  std::deque<SafetensorsFile> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> files_by_tensor_;
  std::map<std::string, StoredNf4, std::less<>> stored_nf4_;
  std::shared_ptr<const PeftAdapter> adapter_;                 // null: none
  std::unique_ptr<const QuantizingReader> quantizing_reader_;  // null: matrices that are numbers stay so
};

}  // namespace plumb
