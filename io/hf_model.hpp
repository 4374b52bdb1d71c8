// A model directory as Hugging Face writes it: config.json and safetensors weights, one file or several with an index.
// Every tensor is checked against the config when the directory is opened; weights are then read by ranges of a unit's
// flat buffer, so that a rank loads its shard and nothing else.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"

namespace plumb {

/// "model.layers.3.self_attn.q_proj.weight"
std::string hf_parameter_name(const Parameter& parameter);

/// "a, b, c and 7 more"
std::string list_some(const std::vector<std::string>& names);

struct HfModelOptions {
  /// Which head is wanted; by default the one that config.json names. A score head can be put on any language model:
  /// where the directory holds no score.weight it is drawn from the seed, as transformers draws it.
  std::optional<HeadKind> head = std::nullopt;
  uint64_t seed = 42;
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
  /// what lies past num_elements are zero. Throws DataError on a weight that is NaN or infinite.
  void read_unit_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const;

  /// Of a score head: whether the directory holds it; otherwise the seed made it.
  bool has_score() const { return has_tensor("score.weight"); }

 private:
  void open_single_file();
  void open_indexed_files();
  void check_parameters() const;
  bool has_tensor(std::string_view name) const { return files_by_tensor_.contains(name); }
  const SafetensorsFile& file_of(std::string_view tensor) const;

  std::string directory_;
  HfModelOptions options_;
  ModelConfig config_;
  std::vector<UnitLayout> units_;
  std::deque<SafetensorsFile> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> files_by_tensor_;
};

}  // namespace plumb
