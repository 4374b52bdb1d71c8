// The weights of a model directory: one safetensors file, or several with an index.
// Source: the model format of transformers and huggingface/safetensors.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/huggingface/safetensors.hpp"
#include "lib/model/model_config.hpp"

namespace plumb {

/// True if a directory with these files holds weights of a model, readable or pickled.
bool has_weights(const std::vector<std::string>& names);

class WeightFiles {
 public:
  /// names: of the directory's files, sorted. auto_class: the class of transformers that loads such a model, for the
  /// command that converts weights of another format. Throws InputOutputError if a file is missing, DataError if the
  /// files contradict each other or the weights are pickled.
  WeightFiles(const std::string& directory, const std::vector<std::string>& names, std::string_view auto_class);

  /// By hf_tensor_name(). Where several files hold a tensor, the index decides.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const { return tensors_; }
  /// Both pointers are null if there is no such tensor.
  StoredTensor find(std::string_view name) const;
  bool has(std::string_view name) const { return tensors_.contains(name); }

  /// Divides the tensors that hold all experts of a layer into those of each (expert_tensors.hpp).
  void split_experts(const ModelConfig& config);

 private:
  void open_single_file(const std::string& path);
  void open_indexed_files(const std::string& directory);
  void add(const SafetensorsFile& file, const SafetensorsEntry& entry);

  std::deque<SafetensorsFile> files_;
  std::deque<SafetensorsEntry> parts_;  // of tensors that were divided
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace plumb
