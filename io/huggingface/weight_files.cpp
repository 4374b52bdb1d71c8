#include "io/huggingface/weight_files.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "io/file/file.hpp"
#include "io/huggingface/expert_tensors.hpp"
#include "io/huggingface/tensor_names.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"
#include "lib/model/config_json.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxFiles = 1000;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

/// True for weights in pickles, which trainers also write for their own state.
bool is_pickled_weights(std::string_view name) {
  for (const char* other : {"training_args", "optimizer", "scheduler", "rng_state", "adapter_model"})
    if (name.starts_with(other)) return false;
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".bin.index.json");
}

[[noreturn]] void fail_without_weights(const std::string& directory, const std::vector<std::string>& names,
                                       std::string_view auto_class) {
  const auto pickled = std::find_if(names.begin(), names.end(), is_pickled_weights);
  if (pickled != names.end())
    throw_error<DataError>(
        "{}: expected weights in {}, got {}; pickled weights can run code and are never read; if you trust them, "
        "convert them: python3 -c \"from transformers import {} as M; d = '{}'; M.from_pretrained(d, "
        "dtype='auto').save_pretrained(d)\"",
        directory, kSingleFile, *pickled, auto_class, directory);
  const auto other = std::find_if(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(".gguf") || name.ends_with(".safetensors") || name.ends_with(".h5") ||
           name.ends_with(".msgpack");
  });
  throw_error<InputOutputError>("{}: expected weights in {} or, for several files, {}; got neither{}", directory,
                                kSingleFile, kIndexFile,
                                other == names.end() ? "" : fmt::format(", but {}, which is not read", *other));
}

/// Weight files must be in the model directory itself; a name that leads elsewhere is treated as an attack.
bool is_plain_part_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.size() <= 255 && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

/// From tensor to file, as the index says.
std::map<std::string, std::string> read_index(const std::string& path) {
  const json index = parse_config_object(read_text_file(path, kMaxIndexBytes), path);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object())
    throw_error<DataError>("{}: weight_map: expected an object from tensor to file, got {}", path,
                           weight_map == index.end() ? "no such key" : quote_json(*weight_map));
  std::map<std::string, std::string> parts;
  for (const auto& [tensor, part] : weight_map->items()) {
    if (!part.is_string() || !is_plain_part_name(part.get_ref<const std::string&>()))
      throw_error<DataError>("{}: weight_map: {}: expected a name ending in .safetensors, without a folder, got {}",
                             path, quote_json(tensor), quote_json(part));
    parts[tensor] = part.get<std::string>();
  }
  return parts;
}

/// The files that the index names, all of which must exist.
std::set<std::string> parts_of(const std::map<std::string, std::string>& index, const std::string& index_path,
                               const std::string& directory) {
  std::set<std::string> parts;
  for (const auto& [tensor, part] : index) parts.insert(part);
  if (parts.size() > kMaxFiles)
    throw_error<DataError>("{}: expected at most {} files, got {}", index_path, kMaxFiles, parts.size());
  std::vector<std::string> missing;
  for (const std::string& part : parts)
    if (!is_regular_file(join_path(directory, part))) missing.push_back(part);
  if (!missing.empty())
    throw_error<InputOutputError>("{}: expected the {} files it names, got all but {}: {}; is the download complete?",
                                  index_path, parts.size(), missing.size(), list_some(missing));
  return parts;
}

}  // namespace

bool has_weights(const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name == kSingleFile || name == kIndexFile || is_pickled_weights(name);
  });
}

WeightFiles::WeightFiles(const std::string& directory, const std::vector<std::string>& names,
                         std::string_view auto_class) {
  if (std::binary_search(names.begin(), names.end(), kSingleFile)) {
    open_single_file(join_path(directory, kSingleFile));
  } else if (std::binary_search(names.begin(), names.end(), kIndexFile)) {
    open_indexed_files(directory);
  } else {
    fail_without_weights(directory, names, auto_class);
  }
}

StoredTensor WeightFiles::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? StoredTensor{} : found->second;
}

void WeightFiles::add(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  const auto [place, is_new] = tensors_.emplace(hf_tensor_name(entry.name), StoredTensor{&file, &entry});
  if (!is_new)
    throw_error<DataError>("{}: tensor {}: expected each tensor once, got it also as {} in {}", file.path(), entry.name,
                           place->second.entry->name, place->second.file->path());
}

void WeightFiles::split_experts(const ModelConfig& config) {
  const std::map<std::string, StoredTensor, std::less<>> before = tensors_;
  for (const auto& [name, tensor] : before) {
    const std::vector<SafetensorsEntry> parts = plumb::split_experts(*tensor.entry, name, config);
    if (parts.empty()) continue;
    tensors_.erase(name);
    for (const SafetensorsEntry& part : parts) add(*tensor.file, parts_.emplace_back(part));
  }
}

void WeightFiles::open_single_file(const std::string& path) {
  const SafetensorsFile& file = files_.emplace_back(path);
  for (const SafetensorsEntry& entry : file.entries()) add(file, entry);
}

void WeightFiles::open_indexed_files(const std::string& directory) {
  const std::string index_path = join_path(directory, kIndexFile);
  const std::map<std::string, std::string> index = read_index(index_path);
  std::map<std::string, std::string> displaced;  // tensors in other files than the one of the index
  for (const std::string& part : parts_of(index, index_path, directory)) {
    const SafetensorsFile& file = files_.emplace_back(join_path(directory, part));
    for (const SafetensorsEntry& entry : file.entries()) {
      const auto listed = index.find(entry.name);
      if (listed != index.end() && listed->second != part) {
        displaced[entry.name] = file.path();
      } else {
        add(file, entry);  // transformers reads unlisted tensors too
      }
    }
  }
  std::vector<std::string> absent;
  for (const auto& [tensor, part] : index) {
    if (has(hf_tensor_name(tensor))) continue;
    absent.push_back(tensor);
    if (const auto found = displaced.find(tensor); found != displaced.end())
      throw_error<DataError>("{}: tensor {}: expected it in {} according to {}, got it here", found->second, tensor,
                             part, kIndexFile);
  }
  std::vector<std::string> shadowed;
  for (const auto& [tensor, path] : displaced) shadowed.push_back(tensor);
  if (!shadowed.empty())
    log_info("{}: {} tensors are in several files, and the index decides: {}", directory, shadowed.size(),
             list_some(shadowed));
  if (!absent.empty())
    log_info("{}: {} tensors that it lists are in no file: {}", index_path, absent.size(), list_some(absent));
}

}  // namespace plumb
