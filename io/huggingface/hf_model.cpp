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
#include "io/huggingface/tensor_names.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log_once.hpp"
#include "lib/base/text_format.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/families.hpp"
#include "lib/model/initialize.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
constexpr const char* kHeadName = "lm_head.weight";

/// Tensors that transformers ignores too: constants of old checkpoints, the head of a tied model, the other kind of
/// head, the value head of TRL's PPO.
bool is_ignorable(std::string_view name, const ModelConfig& config) {
  for (const char* constant : {"rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "rotary_emb.cos_cached",
                               "rotary_emb.sin_cached", "self_attn.bias", "self_attn.masked_bias"})
    if (name.ends_with(constant)) return true;
  if (name.starts_with("v_head.")) return true;
  const bool sees_images = name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.");
  if (config.family == Family::kGemma3 && sees_images) return true;  // of a checkpoint whose text part is trained
  const bool is_language_model = config.head == HeadKind::kLanguageModel;
  return name == kHeadName ? config.ties_embeddings || !is_language_model : name == "score.weight" && is_language_model;
}

std::vector<std::string> list_directory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  if (!stream) {
    const int error = errno;
    throw_error<InputOutputError>(
        "{}: cannot open the model directory: {}; expected a directory with config.json and "
        "model.safetensors; plumb does not download models",
        path, std::strerror(error));
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

bool contains(const std::vector<std::string>& sorted_names, std::string_view name) {
  return std::binary_search(sorted_names.begin(), sorted_names.end(), name);
}

/// The cure for a directory that holds an adapter and no model.
std::string adapter_cure(const std::string& directory) {
  std::string base;
  try {
    base = read_lora_config(directory).base_model;
  } catch (const std::exception&) {  // an unreadable adapter is one all the same
  }
  return fmt::format("; this is an adapter: give its base model{} here and this directory as --adapter",
                     base.empty() ? "" : fmt::format(" ({})", base));
}

const char* auto_class(HeadKind head) {
  return head == HeadKind::kScore ? "AutoModelForSequenceClassification" : "AutoModelForCausalLM";
}

}  // namespace

HfModel::HfModel(const std::string& directory, HfModelOptions options) : directory_(directory), options_(options) {
  const std::vector<std::string> names = list_directory(directory);
  const bool has_adapter_config = contains(names, kLoraConfigFile), has_config = contains(names, "config.json");
  if (!has_config || (has_adapter_config && !has_weights(names)))
    throw_error<InputOutputError>("{}: expected a model directory with {}, got none{}", directory,
                                  has_config ? "weights" : "config.json",
                                  has_adapter_config ? adapter_cure(directory) : "");
  const std::string config_path = join_path(directory, "config.json");
  config_ = parse_model_config(read_text_file(config_path, kMaxConfigBytes), config_path);
  if (options_.head) config_.head = *options_.head;
  if (!options_.head && !options_.adapter.empty() && read_lora_config(options_.adapter).task_type == "SEQ_CLS")
    config_.head = HeadKind::kScore;
  const FamilyTraits& traits = traits_of(config_.family);
  if (config_.head == HeadKind::kScore && traits.classifier_class.empty())
    throw_error<UsageError>(
        "{}: expected a family of which transformers has reward models, got {}; train one on a model of another family",
        directory, traits.model_type);
  if (options_.quantizes && config_.mixture.is_gpt_oss)
    throw_error<UsageError>(
        "{}: expected a model whose matrices can be quantized to NF4, got {}, whose experts are fused; leave out "
        "--quantize",
        directory, traits.model_type);
  if (options_.quantizes) quantizing_reader_ = std::make_unique<QuantizingReader>(options_.quantizes_scales);
  files_.emplace(directory, names, auto_class(config_.head));
  if (has_adapter_config && options_.adapter != directory)
    log_info_once(fmt::format(
        "{}: this directory also holds the {} of an adapter; the model is used without it (--adapter adds one)",
        directory, kLoraConfigFile));
  if (config_.family == Family::kGemma3 && files_->has("multi_modal_projector.mm_input_projection_weight"))
    log_info_once(fmt::format(
        "{}: a model of images and texts: its language model is read, its other tensors are not; an adapter names the "
        "layers of the language model alone, for which PEFT needs that model as base: plumb export writes it",
        directory));
  if (files_->has("v_head.summary.weight"))
    log_info_once(fmt::format("{}: the value head (v_head) beside the language model is not read", directory));
  files_->split_experts(config_);
  settle_tied_head();
  if (options_.unties_head && config_.shares_head()) config_.ties_embeddings = false;
  if (!options_.adapter.empty()) {
    adapter_ = std::make_shared<const PeftAdapter>(options_.adapter, config_);
    config_ = adapter_->model();
  }
  units_ = unit_layouts(config_);
  check_parameters();
}

void HfModel::settle_tied_head() {
  const StoredTensor head = files_->find(kHeadName), embedding = files_->find(kEmbeddingName);
  if (!config_.shares_head()) return;
  shared_name_ = head.entry != nullptr && embedding.entry == nullptr ? kHeadName : kEmbeddingName;
  if (embedding.entry != nullptr && head.entry != nullptr && !have_same_values(embedding, head)) {
    shared_name_.clear();
    config_.ties_embeddings = false;
    log_info_once(
        fmt::format("{}: config.json ties embedding and head, but the files hold a head with other values: they are "
                    "not tied, as in transformers 5",
                    directory_));
  }
}

std::string HfModel::tensor_name_of(const Parameter& parameter) const {
  const bool is_shared = parameter.kind == ParameterKind::kEmbedding || parameter.kind == ParameterKind::kHead;
  return is_shared && !shared_name_.empty() ? shared_name_ : hf_parameter_name(parameter);
}

void HfModel::check_parameters() {
  std::vector<std::string> missing, misfit, extra;
  std::unordered_set<std::string> expected;
  if (!shared_name_.empty()) expected = {kEmbeddingName, kHeadName};
  const FindTensor find = [&](std::string_view name) { return files_->find(hf_tensor_name(name)); };
  for (const UnitLayout& unit : units_) {
    for (const Parameter& parameter : unit.parameters) {
      const std::string name = tensor_name_of(parameter);
      expected.insert(name);
      if (is_replaced(parameter)) continue;
      if (!files_->has(name)) {
        const bool is_of_experts =
            parameter.kind == ParameterKind::kExpertsGateUp || parameter.kind == ParameterKind::kExpertsDown;
        if (const auto found = is_of_experts ? find_mxfp4(name, parameter.shape, find) : std::nullopt) {
          stored_mxfp4_[name] = *found;
          for (const StoredTensor& part : {found->blocks, found->scales})
            expected.insert(hf_tensor_name(part.entry->name));
          continue;
        }
        if (parameter.kind != ParameterKind::kScore) missing.push_back(name);
        continue;
      }
      const SafetensorsEntry& entry = *files_->find(name).entry;
      const bool is_number = is_float(entry.dtype);
      const bool may_be_nf4 = config_.is_quantized && parameter.shape.size() == 2;
      if (may_be_nf4 && (entry.shape != parameter.shape || !is_number || has_nf4_parts(name, find))) {
        const StoredNf4& matrix = stored_nf4_[name] = open_nf4(name, parameter.shape, find);
        for (const std::string& part : matrix.part_names) expected.insert(hf_tensor_name(part));
        continue;
      }
      if (entry.shape != parameter.shape || !is_number)
        misfit.push_back(fmt::format("{} (expected {} of {}, got {} of {})", name, kFloatDtypes,
                                     quote_shape(parameter.shape), dtype_info(entry.dtype).name,
                                     quote_shape(entry.shape)));
    }
  }
  for (const auto& [name, tensor] : files_->tensors())
    if (!expected.contains(name) && !is_ignorable(name, config_)) extra.push_back(tensor.entry->name);
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

const StoredNf4* HfModel::find_stored_nf4(const Parameter& parameter) const {
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
  return matrix != nullptr ? matrix->original_dtype : QuantizingReader::original_dtype_of(stored_tensor(parameter));
}

void HfModel::read_nf4(const Parameter& parameter, std::span<std::byte> bytes) const {
  check(is_quantized(parameter), "only a quantized parameter is read as NF4");
  if (const StoredNf4* matrix = find_stored_nf4(parameter)) return read_stored_nf4(*matrix, bytes);
  quantizing_reader_->read(stored_tensor(parameter), bytes);
}

StoredTensor HfModel::stored_tensor(const Parameter& parameter) const {
  const std::string name = tensor_name_of(parameter);
  const StoredTensor found = files_->find(name);
  if (found.entry == nullptr)
    throw_error<DataError>("{}: expected a tensor {}, got none of that name", directory_, name);
  return found;
}

void HfModel::read_unit_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const {
  read_base_range(unit, begin, end, values);
  if (adapter_)
    merge_adapter(*adapter_, unit, begin, end, values, [&](int64_t first, int64_t last, std::span<float> base) {
      read_base_range(unit, first, last, base);
    });
}

bool HfModel::is_replaced(const Parameter& parameter) const {
  return adapter_ &&
         (trains_whole(adapter_->adapter(), parameter.kind) || adapter_->replacement(parameter).entry != nullptr);
}

bool HfModel::has_score() const {
  return files_->has("score.weight") || (adapter_ && trains_whole(adapter_->adapter(), ParameterKind::kScore));
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
    if (is_replaced(parameter)) {
      const StoredTensor replacement = adapter_->replacement(parameter);
      if (replacement.entry == nullptr) continue;  // the adapter's own, which merging reads
      replacement.file->read(*replacement.entry, first - parameter.offset, piece);
      replacement.file->check_finite(*replacement.entry, first - parameter.offset, piece);
      continue;
    }
    if (parameter.kind == ParameterKind::kScore && !files_->has(name)) {
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
    if (const auto mxfp4 = stored_mxfp4_.find(name); mxfp4 != stored_mxfp4_.end()) {
      mxfp4_reader_->read(mxfp4->second, parameter.shape, first - parameter.offset, piece);
      continue;
    }
    const StoredTensor tensor = stored_tensor(parameter);
    tensor.file->read(*tensor.entry, first - parameter.offset, piece);
    tensor.file->check_finite(*tensor.entry, first - parameter.offset, piece);
  }
}

}  // namespace plumb
