#include "io/huggingface/peft_adapter.hpp"

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "io/file/file.hpp"
#include "io/huggingface/parameter_names.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

using enum ParameterKind;

constexpr const char* kPrefix = "base_model.model.";
constexpr const char* kBaseLayer = ".base_layer";

/// Finds the weights file, or explains why there is none.
std::string weights_path(const std::string& directory) {
  const std::string path = join_path(directory, kAdapterFile);
  if (!is_regular_file(path) && is_regular_file(join_path(directory, "adapter_model.bin")))
    throw_error<DataError>(
        "{}: expected weights in {}, got adapter_model.bin; pickled weights can run code and are never read; if you "
        "trust them, convert them: python3 -c \"import torch; from safetensors.torch import save_file; d = "
        "'{}/adapter_model.'; save_file(torch.load(d + 'bin', weights_only=True), d + 'safetensors')\"",
        directory, kAdapterFile, directory);
  return path;
}

/// A module that the adapter's file names and the base lacks is an error in the file (DataError), not in the command
/// line.
Adapter resolve_read(const std::string& directory, const LoraConfig& config, const ModelConfig& model) {
  try {
    return resolve_finished(config, model);
  } catch (const UsageError& error) {
    throw_error<DataError>("{}: {}", join_path(directory, kLoraConfigFile), error.what());
  }
}

/// The name of a parameter of the base in an adapter's file; `wrapper`: kBaseLayer if its module is adapted.
std::string name_in_file(const std::string& hf_name, const char* wrapper = "") {
  const size_t end = hf_name.rfind('.');
  return kPrefix + hf_name.substr(0, end) + wrapper + hf_name.substr(end);
}

/// True if the adapter has a part beside the parameter, so that its module is wrapped.
bool is_wrapped(const Adapter& adapter, const Parameter& parameter) {
  const auto is_its = [&](const LoraTarget& target) {
    return target.kind == parameter.kind && target.layer == parameter.layer;
  };
  const auto has_rows = [&](const AdapterRows& rows) { return rows.kind == parameter.kind; };
  return std::any_of(adapter.targets.begin(), adapter.targets.end(), is_its) ||
         std::any_of(adapter.outer_targets.begin(), adapter.outer_targets.end(), is_its) ||
         std::any_of(adapter.rows.begin(), adapter.rows.end(), has_rows);
}

/// extra: tensors that are not of this adapter.
void refuse_parts_of_experts(const ModelConfig& model, const std::vector<std::string>& extra, const std::string& path) {
  if (model.mixture.num_experts == 0) return;
  for (const std::string& name : extra)
    if (name.find(".experts.") != std::string::npos)
      throw_error<DataError>(
          "{}: tensor {}: expected one adapter for all experts of a layer (target_parameters), got one for each, as "
          "PEFT made it under transformers 4; merge it with PEFT (merge_and_unload, save_pretrained) and give the "
          "result as --model",
          path, name);
    else if (name.find("gate.lora_") != std::string::npos || name.find(".router.lora_") != std::string::npos)
      throw_error<DataError>(
          "{}: tensor {}: an adapter of a router is not supported; merge it with PEFT (merge_and_unload, "
          "save_pretrained) and give the result as --model",
          path, name);
}

/// True if b is the transpose of a.
bool is_transpose(const SafetensorsFile& file, const SafetensorsEntry& a, const SafetensorsEntry& b) {
  if (a.shape.size() != 2 || b.shape != std::vector<int64_t>{a.shape[1], a.shape[0]}) return false;
  std::vector<float> of_a(a.num_elements), of_b(b.num_elements);
  file.read(a, 0, std::span(of_a));
  file.read(b, 0, std::span(of_b));
  for (int64_t i = 0; i < a.shape[0]; ++i)
    for (int64_t j = 0; j < a.shape[1]; ++j)
      if (of_a[i * a.shape[1] + j] != of_b[j * a.shape[0] + i]) return false;
  return true;
}

}  // namespace

LoraConfig read_lora_config(const std::string& directory) {
  const std::string path = join_path(directory, kLoraConfigFile);
  if (!is_regular_file(path)) {
    const bool is_model = is_regular_file(join_path(directory, "config.json"));
    throw_error<InputOutputError>("{}: expected an adapter directory with {}, got none{}", directory, kLoraConfigFile,
                                  is_model ? "; this is a model: give it as --model" : "");
  }
  return parse_lora_config(read_text_file(path, kMaxLoraConfigBytes), path);
}

PeftAdapter::PeftAdapter(const std::string& directory, const ModelConfig& base)
    : directory_(directory),
      config_(read_lora_config(directory)),
      tensors_(weights_path(directory)),
      model_(adapted_model(config_, base)) {
  model_.vocab_size = find_vocab_size(base.vocab_size);
  adapter_ = resolve_read(directory, config_, model_);
  unit_ = adapter_layout(model_, adapter_);
  find_replacements(base.shares_head());
  check_tensors();
  if (const std::vector<std::string> unknown = unknown_modules(config_, model_); !unknown.empty())
    log_info("{}: it names modules that this base lacks: {}", join_path(directory, kLoraConfigFile),
             list_some(unknown));
  if (model_.vocab_size != base.vocab_size)
    log_info("{}: its vocabulary has {} tokens, that of the base {}", directory, model_.vocab_size, base.vocab_size);
}

/// That of the embedding or head in the file, as after a resize.
int64_t PeftAdapter::find_vocab_size(int64_t of_base) const {
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    for (const char* wrapper : {"", kBaseLayer}) {
      const SafetensorsEntry* entry = tensors_.find(name_in_file(name, wrapper));
      if (entry == nullptr || entry->shape.size() != 2 || entry->shape[0] == of_base) continue;
      if (entry->shape[1] == model_.hidden_size && entry->shape[0] > 0) return entry->shape[0];
    }
  return of_base;
}

void PeftAdapter::find_replacements(bool is_base_tied) {
  std::vector<std::string> names;
  for (const UnitLayout& unit : unit_layouts(model_))
    for (const Parameter& parameter : unit.parameters) {
      const std::string name = hf_parameter_name(parameter);
      const SafetensorsEntry* entry = tensors_.find(name_in_file(name, kBaseLayer));
      if (!is_wrapped(adapter_, parameter) && entry == nullptr) entry = tensors_.find(name_in_file(name));
      if (trains_whole(adapter_, parameter.kind)) continue;  // a part of the adapter
      if (entry == nullptr && saves_parameter(config_, name))
        throw_error<DataError>("{}: expected a tensor {}, as modules_to_save says, got none", tensors_.file().path(),
                               name_in_file(name));
      if (entry == nullptr) continue;
      if (entry->shape != parameter.shape || !is_float(entry->dtype))
        throw_error<DataError>("{}: tensor {}: expected {} of {}, got {} of {}; is the adapter one of another base?",
                               tensors_.file().path(), entry->name, kFloatDtypes, quote_shape(parameter.shape),
                               dtype_info(entry->dtype).name, quote_shape(entry->shape));
      replacements_[{parameter.kind, parameter.layer, parameter.expert}] = entry;
      names.push_back(name);
    }
  if (is_base_tied && !model_.shares_head()) share_replacement();
  if (!names.empty())
    log_info("{}: it also holds {} parameters of the base, which take their place: {}", directory_, names.size(),
             list_some(names));
}

/// Embedding and head of the base are one matrix, so that what replaces one of them replaces both.
void PeftAdapter::share_replacement() {
  const auto embedding = replacements_.find({kEmbedding, -1, -1}), head = replacements_.find({kHead, -1, -1});
  if (embedding == replacements_.end() && head == replacements_.end()) return;
  if (embedding != replacements_.end() && head != replacements_.end()) {
    const StoredTensor a{&tensors_.file(), embedding->second}, b{&tensors_.file(), head->second};
    if (!have_same_values(a, b))
      throw_error<DataError>(
          "{}: tensors {} and {}: expected the same values, as they are one matrix in the base, got others",
          tensors_.file().path(), a.entry->name, b.entry->name);
  } else if (head == replacements_.end()) {
    if (!trains_whole(adapter_, kHead)) replacements_[{kHead, -1, -1}] = embedding->second;
  } else if (!trains_whole(adapter_, kEmbedding)) {
    replacements_[{kEmbedding, -1, -1}] = head->second;
  }
}

void PeftAdapter::check_tensors() const {
  std::unordered_set<std::string> expected;
  for (const Parameter& parameter : unit_.parameters) expected.insert(peft_tensor_name(parameter));
  for (const ParameterKind kind : adapter_.whole)  // what a module that is trained in full was before
    expected.insert(kPrefix + outer_path(kind) + ".original_module.weight");
  std::unordered_set<const SafetensorsEntry*> used;
  for (const auto& [key, entry] : replacements_) used.insert(entry);
  const std::string head = kPrefix + outer_path(kHead) + ".";
  std::vector<std::string> extra;
  for (const auto& [name, entry] : tensors_.entries()) {
    const bool is_copy = model_.shares_head() && name.starts_with(head);  // see check_tied_copies()
    if (!expected.contains(name) && !used.contains(entry) && !is_copy) extra.push_back(entry->name);
  }
  refuse_parts_of_experts(model_, extra, tensors_.file().path());
  check_peft_tensors(tensors_, unit_, extra);
  if (model_.shares_head()) check_tied_copies();
}

/// Where embedding and head remain one matrix, PEFT saves the parts of both.
void PeftAdapter::check_tied_copies() const {
  const std::string head = kPrefix + outer_path(kHead), embedding = kPrefix + outer_path(kEmbedding);
  for (const auto& [name, entry] : tensors_.entries()) {
    if (!name.starts_with(head + ".")) continue;
    std::string part = name.substr(head.size());
    const bool is_low_rank = part == ".lora_A.weight" || part == ".lora_B.weight";
    if (is_low_rank) part = part == ".lora_A.weight" ? ".lora_embedding_B" : ".lora_embedding_A";
    const SafetensorsEntry* original = tensors_.find(embedding + part);
    const bool is_same = original != nullptr &&
                         (is_low_rank ? is_transpose(tensors_.file(), *original, *entry)
                                      : have_same_values({&tensors_.file(), original}, {&tensors_.file(), entry}));
    if (!is_same)
      throw_error<DataError>(
          "{}: tensor {}: expected the values of {}{}, as embedding and head are one matrix in this base, got {}",
          tensors_.file().path(), entry->name, embedding, part, original == nullptr ? "no such tensor" : "others");
  }
}

const Parameter* PeftAdapter::find(ParameterKind kind, int64_t layer, AdapterPart part) const {
  const auto found = std::find_if(unit_.parameters.begin(), unit_.parameters.end(), [&](const Parameter& parameter) {
    return parameter.kind == kind && parameter.layer == layer && parameter.part == part;
  });
  return found == unit_.parameters.end() ? nullptr : &*found;
}

StoredTensor PeftAdapter::replacement(const Parameter& parameter) const {
  const auto found = replacements_.find({parameter.kind, parameter.layer, parameter.expert});
  return found == replacements_.end() ? StoredTensor{} : StoredTensor{&tensors_.file(), found->second};
}

std::string PeftAdapter::untrainable_part() const {
  if (!replacements_.empty()) return "parameters of the base, such as " + replacements_.begin()->second->name;
  if (adapter_.has_magnitudes && !adapter_.outer_targets.empty()) return "magnitudes (DoRA) of the head";
  return "";
}

bool trains_whole(const Adapter& adapter, ParameterKind kind) {
  return std::find(adapter.whole.begin(), adapter.whole.end(), kind) != adapter.whole.end();
}

}  // namespace plumb
