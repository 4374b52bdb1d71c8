#include "io/huggingface/hf_model.hpp"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <unordered_set>

#include "io/huggingface/merged_weights.hpp"
#include "io/huggingface/peft_adapter.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log_once.hpp"
#include "lib/base/text_format.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/initialize.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20, kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxFiles = 1000;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
constexpr const char* kHeadName = "lm_head.weight";

/// Tensors that transformers ignores too: constants of old checkpoints, the head of a tied model, the other kind of
/// head.
bool is_ignorable(std::string_view name, const ModelConfig& config) {
  if (name.ends_with("rotary_emb.inv_freq")) return true;
  const bool is_language_model = config.head == HeadKind::kLanguageModel;
  return name == kHeadName ? config.ties_embeddings || !is_language_model : name == "score.weight" && is_language_model;
}

std::vector<std::string> list_directory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  if (!stream) {
    const int error = errno;
    throw_error<InputOutputError>(
        "{}: cannot open the model directory: {}; expected a directory with config.json and {}; "
        "plumb does not download models",
        path, std::strerror(error), kSingleFile);
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

bool contains(const std::vector<std::string>& sorted_names, std::string_view name) {
  return std::binary_search(sorted_names.begin(), sorted_names.end(), name);
}

[[noreturn]] void fail_without_weights(const std::string& directory, const std::vector<std::string>& names) {
  const auto pickled = std::find_if(names.begin(), names.end(), [](const std::string& name) {
    return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") ||
           name.ends_with(".bin.index.json");
  });
  if (pickled != names.end())
    throw_error<DataError>(
        "{}: expected weights in {}, got {}; pickled weights can run code and are never read: convert "
        "them with AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) in transformers",
        directory, kSingleFile, *pickled);
  throw_error<InputOutputError>("{}: expected weights in {} or, for several files, {}; got neither", directory,
                                kSingleFile, kIndexFile);
}

/// Weight files must be in the model directory itself; a name that leads elsewhere is treated as an attack.
bool is_plain_part_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.size() <= 255 && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

bool have_same_values(const StoredTensor& a, const StoredTensor& b) {
  constexpr int64_t kPieceElements = 1 << 18;
  if (a.entry->shape != b.entry->shape) return false;
  const int64_t num_elements = a.entry->num_elements;
  std::vector<float> values_a(kPieceElements), values_b(kPieceElements);
  for (int64_t begin = 0; begin < num_elements; begin += kPieceElements) {
    const int64_t size = std::min(kPieceElements, num_elements - begin);
    const std::span piece_a = std::span(values_a).first(size), piece_b = std::span(values_b).first(size);
    a.file->read(*a.entry, begin, piece_a);
    b.file->read(*b.entry, begin, piece_b);
    if (!std::equal(piece_a.begin(), piece_a.end(), piece_b.begin())) return false;
  }
  return true;
}

}  // namespace

HfModel::HfModel(const std::string& directory, HfModelOptions options) : directory_(directory), options_(options) {
  const std::vector<std::string> names = list_directory(directory);
  if (!contains(names, "config.json"))
    throw_error<InputOutputError>("{}: expected a model directory with config.json, got none{}", directory,
                                  contains(names, "adapter_config.json")
                                      ? "; this is an adapter: give the base model here and this directory as --adapter"
                                      : "");
  const std::string config_path = join_path(directory, "config.json");
  config_ = parse_model_config(read_text_file(config_path, kMaxConfigBytes), config_path);
  if (options_.head) config_.head = *options_.head;
  if (!options_.head && !options_.adapter.empty() && read_lora_config(options_.adapter).task_type == "SEQ_CLS")
    config_.head = HeadKind::kScore;
  if (options_.quantizes) quantizing_reader_ = std::make_unique<QuantizingReader>(options_.quantizes_scales);
  if (contains(names, kSingleFile)) {
    open_single_file();
  } else if (contains(names, kIndexFile)) {
    open_indexed_files();
  } else {
    fail_without_weights(directory, names);
  }
  settle_tied_head();
  units_ = unit_layouts(config_);
  check_parameters();
  if (!options_.adapter.empty()) adapter_ = std::make_shared<const PeftAdapter>(options_.adapter, config_);
}

void HfModel::open_single_file() {
  const SafetensorsFile& file = files_.emplace_back(join_path(directory_, kSingleFile));
  for (const SafetensorsEntry& entry : file.entries()) files_by_tensor_[entry.name] = &file;
}

void HfModel::open_indexed_files() {
  const std::string index_path = join_path(directory_, kIndexFile);
  const json index = parse_config_object(read_text_file(index_path, kMaxIndexBytes), index_path);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end() || !weight_map->is_object())
    throw_error<DataError>("{}: weight_map: expected an object from tensor to file, got {}", index_path,
                           weight_map == index.end() ? "no such key" : quote_json(*weight_map));

  std::set<std::string> part_names;
  for (const auto& [tensor, part] : weight_map->items()) {
    if (!part.is_string() || !is_plain_part_name(part.get_ref<const std::string&>()))
      throw_error<DataError>("{}: weight_map: {}: expected a name ending in .safetensors, without a folder, got {}",
                             index_path, quote_json(tensor), quote_json(part));
    part_names.insert(part.get<std::string>());
  }
  if (part_names.size() > kMaxFiles)
    throw_error<DataError>("{}: expected at most {} files, got {}", index_path, kMaxFiles, part_names.size());
  std::vector<std::string> missing;
  for (const std::string& part : part_names)
    if (!is_regular_file(join_path(directory_, part))) missing.push_back(part);
  if (!missing.empty())
    throw_error<InputOutputError>("{}: expected the {} files it names, got all but {}: {}; is the download complete?",
                                  index_path, part_names.size(), missing.size(), list_some(missing));

  for (const std::string& part : part_names) {
    const SafetensorsFile& file = files_.emplace_back(join_path(directory_, part));
    for (const SafetensorsEntry& entry : file.entries()) {
      const auto listed = weight_map->find(entry.name);
      if (listed == weight_map->end() ? !is_ignorable(entry.name, config_) : *listed != part)
        throw_error<DataError>("{}: tensor {}: expected it in {} according to {}, got it here", file.path(), entry.name,
                               listed == weight_map->end() ? "no file" : listed->get<std::string>(), kIndexFile);
      files_by_tensor_[entry.name] = &file;
    }
  }
  for (const auto& [tensor, part] : weight_map->items())
    if (!has_tensor(tensor))
      throw_error<DataError>("{}: expected tensor {}, as {} says, got a file without it",
                             join_path(directory_, part.get<std::string>()), quote_json(tensor), kIndexFile);
}

void HfModel::settle_tied_head() {
  const StoredTensor head = find_tensor(kHeadName), embedding = find_tensor(kEmbeddingName);
  if (!config_.shares_head() || head.entry == nullptr) return;
  if (embedding.entry == nullptr) {
    is_embedding_named_head_ = true;
  } else if (!have_same_values(embedding, head)) {
    config_.ties_embeddings = false;
    log_info_once(
        fmt::format("{}: config.json ties embedding and head, but the files hold a head with other values: they are "
                    "not tied, as in transformers 5",
                    directory_));
  }
}

std::string HfModel::tensor_name_of(const Parameter& parameter) const {
  const bool is_head = is_embedding_named_head_ && parameter.kind == ParameterKind::kEmbedding;
  return is_head ? kHeadName : hf_parameter_name(parameter);
}

void HfModel::check_parameters() {
  std::vector<std::string> missing, misfit, extra;
  std::unordered_set<std::string> expected;
  const FindTensor find = [&](std::string_view name) { return find_tensor(name); };
  for (const UnitLayout& unit : units_) {
    for (const Parameter& parameter : unit.parameters) {
      const std::string name = tensor_name_of(parameter);
      expected.insert(name);
      if (!has_tensor(name)) {
        if (parameter.kind != ParameterKind::kScore) missing.push_back(name);
        continue;
      }
      const SafetensorsEntry& entry = file_of(name).at(name);
      const bool is_number = entry.dtype == Dtype::kF32 || entry.dtype == Dtype::kBf16 || entry.dtype == Dtype::kF16;
      const bool may_be_nf4 = config_.is_quantized && is_block_matrix(parameter.kind);
      if (may_be_nf4 && (entry.shape != parameter.shape || !is_number || has_nf4_parts(name, find))) {
        const StoredNf4& matrix = stored_nf4_[name] = open_nf4(name, parameter.shape, find);
        expected.insert(matrix.part_names.begin(), matrix.part_names.end());
        continue;
      }
      if (entry.shape != parameter.shape || !is_number)
        misfit.push_back(fmt::format("{} (expected F32, BF16 or F16 of {}, got {} of {})", name,
                                     quote_shape(parameter.shape), dtype_info(entry.dtype).name,
                                     quote_shape(entry.shape)));
    }
  }
  for (const auto& [name, file] : files_by_tensor_)
    if (!expected.contains(name) && !is_ignorable(name, config_)) extra.push_back(name);
  std::string faults;
  const auto report = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) faults += fmt::format("; {} {}: {}", names.size(), what, list_some(names));
  };
  report("missing", missing);
  report("of another shape or dtype", misfit);
  report("not in the model", extra);
  if (!faults.empty())
    throw_error<DataError>("{}: expected the weights that config.json describes{}", directory_, faults);
  if (config_.is_quantized && stored_nf4_.empty())
    throw_error<DataError>("{}: expected matrices in NF4, as quantization_config of config.json says, got none",
                           directory_);
}

StoredTensor HfModel::find_tensor(std::string_view name) const {
  const auto found = files_by_tensor_.find(name);
  if (found == files_by_tensor_.end()) return {};
  return {found->second, found->second->find(name)};
}

const SafetensorsFile& HfModel::file_of(std::string_view tensor) const {
  const auto found = files_by_tensor_.find(tensor);
  if (found == files_by_tensor_.end())
    throw_error<DataError>("{}: expected a tensor {}, got none of that name", directory_, tensor);
  return *found->second;
}

const StoredNf4* HfModel::find_stored_nf4(const Parameter& parameter) const {
  if (!config_.is_quantized || !is_block_matrix(parameter.kind)) return nullptr;
  const auto found = stored_nf4_.find(tensor_name_of(parameter));
  return found == stored_nf4_.end() ? nullptr : &found->second;
}

bool HfModel::is_quantized(const Parameter& parameter) const {
  return is_block_matrix(parameter.kind) && (quantizing_reader_ || find_stored_nf4(parameter) != nullptr);
}

Nf4Layout HfModel::nf4_layout_of(const Parameter& parameter) const {
  check(is_quantized(parameter), "only a quantized parameter has a layout of NF4");
  const StoredNf4* matrix = find_stored_nf4(parameter);
  return matrix != nullptr ? matrix->layout : quantizing_reader_->layout_of(stored_tensor(parameter));
}

Dtype HfModel::original_dtype_of(const Parameter& parameter) const {
  check(is_quantized(parameter), "only a quantized parameter had another dtype");
  const StoredNf4* matrix = find_stored_nf4(parameter);
  return matrix != nullptr ? matrix->original_dtype : stored_tensor(parameter).entry->dtype;
}

void HfModel::read_nf4(const Parameter& parameter, std::span<std::byte> bytes) const {
  check(is_quantized(parameter), "only a quantized parameter is read as NF4");
  if (const StoredNf4* matrix = find_stored_nf4(parameter)) return read_stored_nf4(*matrix, bytes);
  quantizing_reader_->read(stored_tensor(parameter), bytes);
}

StoredTensor HfModel::stored_tensor(const Parameter& parameter) const {
  const std::string name = tensor_name_of(parameter);
  const SafetensorsFile& file = file_of(name);
  return {&file, &file.at(name)};
}

void HfModel::read_unit_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const {
  read_base_range(unit, begin, end, values);
  if (adapter_)
    merge_adapter(*adapter_, unit, begin, end, values, [&](int64_t first, int64_t last, std::span<float> base) {
      read_base_range(unit, first, last, base);
    });
}

bool HfModel::has_score() const {
  return has_tensor("score.weight") || (adapter_ && trains_whole(adapter_->adapter(), ParameterKind::kScore));
}

void HfModel::read_base_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const {
  check(begin >= 0 && begin <= end && static_cast<int64_t>(values.size()) == end - begin,
        "a range of a unit fills its values");
  std::fill(values.begin(), values.end(), 0.0f);
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    if (first >= last) continue;
    const std::string name = tensor_name_of(parameter);
    const auto piece = values.subspan(first - begin, last - first);
    if (parameter.kind == ParameterKind::kScore && !has_tensor(name)) {
      UnitLayout score{"score", {parameter}, parameter.num_elements()};
      score.parameters[0].offset = 0;
      initialize_unit_range(score, config_, options_.seed, first - parameter.offset, last - parameter.offset, piece);
      continue;
    }
    if (const StoredNf4* matrix = find_stored_nf4(parameter)) {
      read_stored_nf4(*matrix, first - parameter.offset, piece);
      continue;
    }
    if (is_quantized(parameter)) {
      quantizing_reader_->read(stored_tensor(parameter), first - parameter.offset, piece);
      continue;
    }
    const SafetensorsFile& file = file_of(name);
    const SafetensorsEntry& entry = file.at(name);
    file.read(entry, first - parameter.offset, piece);
    file.check_finite(entry, first - parameter.offset, piece);
  }
}

}  // namespace plumb
