#include "io/huggingface/peft_tensors.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "io/huggingface/parameter_names.hpp"
#include "io/huggingface/tensor_names.hpp"
#include "io/huggingface/unit_pieces.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSaved = "modules_to_save";
/// Modules whose parameters are named by the adapter; those in kSuffixed end in ".weight".
constexpr std::array<std::string_view, 2> kSuffixed = {"lora_A", "lora_B"};
constexpr std::array<std::string_view, 4> kBare = {"lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
                                                   "trainable_tokens_delta"};

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string_view> split(std::string_view name) {
  std::vector<std::string_view> parts;
  for (size_t end = name.find('.'); end != std::string_view::npos; end = name.find('.')) {
    parts.push_back(name.substr(0, end));
    name.remove_prefix(end + 1);
  }
  parts.push_back(name);
  return parts;
}

std::string join(const std::vector<std::string_view>& parts) {
  std::string name;
  for (const std::string_view part : parts) name += (name.empty() ? "" : ".") + std::string(part);
  return name;
}

/// PEFT's own prefix may be within those of wrappers.
std::string without_prefix(std::string_view name) {
  const size_t at = name.find("base_model.");
  const bool is_prefix = at != std::string_view::npos && (at == 0 || name[at - 1] == '.');
  return hf_tensor_name(is_prefix ? name.substr(at + std::string_view("base_model.").size()) : name);
}

/// Removes the adapter's name after `marker`, and returns it. `suffix`: the word that follows it, or "".
std::string take_adapter_name(std::vector<std::string_view>& parts, size_t marker, std::string_view suffix) {
  const bool has_suffix = parts.back() == suffix && parts.size() > marker + 1;
  const size_t num_after = parts.size() - marker - 1 - (has_suffix ? 1 : 0);
  if (num_after != 1) return "";
  const std::string adapter(parts[marker + 1]);
  parts.erase(parts.begin() + static_cast<ptrdiff_t>(marker) + 1);
  return adapter;
}

}  // namespace

std::string peft_tensor_name(const Parameter& parameter) {
  std::string name = hf_parameter_name(parameter);
  if (parameter.part == AdapterPart::kWhole) return std::string(kPrefix) + name;
  std::string module = std::string(kPrefix) + name.substr(0, name.rfind('.'));
  // two parameters of one module: its wrapper is wrapped again
  if (parameter.kind == ParameterKind::kExpertsGateUp) module += ".base_layer";
  const bool is_embedding = parameter.kind == ParameterKind::kEmbedding;
  switch (parameter.part) {
    using enum AdapterPart;
    case kLoraA:
      return module + (is_embedding ? ".lora_embedding_A" : ".lora_A.weight");
    case kLoraB:
      return module + (is_embedding ? ".lora_embedding_B" : ".lora_B.weight");
    case kMagnitude:
      return module + ".lora_magnitude_vector";
    case kRows:
      return module + ".token_adapter.trainable_tokens_delta";
    case kWhole:
      break;
  }
  check(false, "every part of an adapter has a name");
  return {};
}

PeftName parse_peft_name(std::string_view stored) {
  const std::string name = without_prefix(stored);
  std::vector<std::string_view> parts = split(name);
  std::erase(parts, "_orig_mod");
  std::string adapter;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (contains(kSuffixed, parts[i])) {
      adapter = take_adapter_name(parts, i, "weight");
      break;
    }
    if (contains(kBare, parts[i])) {
      adapter = take_adapter_name(parts, i, "weight");
      if (parts.back() == "weight") parts.pop_back();
      break;
    }
    if (parts[i] == kSaved) {
      adapter = take_adapter_name(parts, i, parts.back());
      if (adapter.empty() && i + 1 < parts.size() && parts[i + 1] == "default")  // of a module of several layers
        adapter = parts[i + 1], parts.erase(parts.begin() + static_cast<ptrdiff_t>(i) + 1);
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(i));
      break;
    }
  }
  // the base's own matrix under trained rows has one wrapper more
  if (parts.size() > 2 && parts.back() == "weight" && parts[parts.size() - 2] == "base_layer")
    std::erase(parts, "token_adapter");
  return {std::string(kPrefix) + join(parts), adapter};
}

PeftTensors::PeftTensors(const std::string& path) : file_(path) {
  std::string adapter;
  for (const SafetensorsEntry& entry : file_.entries()) {
    const PeftName parsed = parse_peft_name(entry.name);
    if (!parsed.adapter.empty() && !adapter.empty() && parsed.adapter != adapter)
      throw_error<DataError>("{}: tensor {}: expected one adapter, got {} and {}; save each in a folder of its own",
                             path, entry.name, adapter, parsed.adapter);
    if (!parsed.adapter.empty()) adapter = parsed.adapter;
    const auto [place, is_new] = entries_.emplace(parsed.name, &entry);
    if (!is_new && !have_same_values({&file_, place->second}, {&file_, &entry}))
      throw_error<DataError>("{}: tensor {}: expected the values of {}, which is the same parameter, got others", path,
                             entry.name, place->second->name);
  }
}

const SafetensorsEntry* PeftTensors::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

void PeftTensors::read_range(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values) const {
  for_each_piece(unit, begin, end, values,
                 [&](const Parameter& parameter, int64_t first, int64_t, std::span<float> piece) {
                   const SafetensorsEntry* entry = find(peft_tensor_name(parameter));
                   check(entry != nullptr, "the tensors of the unit were checked");
                   file_.read(*entry, first, piece);
                   file_.check_finite(*entry, first, piece);
                 });
}

void check_peft_tensors(const PeftTensors& tensors, const UnitLayout& unit, std::span<const std::string> extra) {
  std::vector<std::string> missing, misfit;
  for (const Parameter& parameter : unit.parameters) {
    const std::string name = peft_tensor_name(parameter);
    const SafetensorsEntry* entry = tensors.find(name);
    if (entry == nullptr) {
      missing.push_back(name);
    } else if (entry->shape != parameter.shape || !is_float(entry->dtype)) {
      misfit.push_back(fmt::format("{} (expected {} of {}, got {} of {})", name, kFloatDtypes,
                                   quote_shape(parameter.shape), dtype_info(entry->dtype).name,
                                   quote_shape(entry->shape)));
    }
  }
  std::string faults;
  const auto report = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) faults += fmt::format("; {} {}: {}", names.size(), what, list_some(names));
  };
  report("missing", missing);
  report("of another shape or dtype", misfit);
  report("not of this adapter", {extra.begin(), extra.end()});
  if (!faults.empty())
    throw_error<DataError>(
        "{}: expected the {} tensors that adapter_config.json describes for this base model{}; is the adapter one of "
        "another base?",
        tensors.file().path(), unit.parameters.size(), faults);
}

}  // namespace plumb
