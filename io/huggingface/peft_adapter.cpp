#include "io/huggingface/peft_adapter.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>
#include <vector>

#include "io/file/file.hpp"
#include "io/huggingface/unit_pieces.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

/// Opens the weights file, or explains why there is none.
SafetensorsFile open_weights(const std::string& directory) {
  const std::string path = join_path(directory, kAdapterFile);
  if (!is_regular_file(path) && is_regular_file(join_path(directory, "adapter_model.bin")))
    throw_error<DataError>(
        "{}: expected weights in {}, got adapter_model.bin; pickled weights can run code and are never read: load and "
        "save the adapter with PEFT (save_pretrained), which writes safetensors",
        directory, kAdapterFile);
  return SafetensorsFile(path);
}

/// A module that the adapter's file names and the base lacks is an error in the file (DataError), not in the command
/// line.
Adapter resolve_read_adapter(const std::string& directory, const LoraConfig& config, const ModelConfig& base) {
  try {
    return resolve_adapter(config, base);
  } catch (const UsageError& error) {
    throw_error<DataError>("{}: {}", join_path(directory, kLoraConfigFile), error.what());
  }
}

}  // namespace

std::string peft_tensor_name(const Parameter& parameter) {
  const std::string module = "base_model.model." + module_path(parameter);
  switch (parameter.part) {
    using enum AdapterPart;
    case kWhole:
      return module + ".weight";
    case kLoraA:
      return module + ".lora_A.weight";
    case kLoraB:
      return module + ".lora_B.weight";
    case kMagnitude:
      return module + ".lora_magnitude_vector";
  }
  check(false, "every part of an adapter has a name");
  return {};
}

void check_adapter_tensors(const SafetensorsFile& file, const UnitLayout& unit) {
  std::vector<std::string> missing, misfit, extra;
  std::unordered_set<std::string> expected;
  for (const Parameter& parameter : unit.parameters) {
    const std::string name = peft_tensor_name(parameter);
    expected.insert(name);
    const SafetensorsEntry* entry = file.find(name);
    if (entry == nullptr) {
      missing.push_back(name);
      continue;
    }
    const bool is_number = entry->dtype == Dtype::kF32 || entry->dtype == Dtype::kBf16 || entry->dtype == Dtype::kF16;
    if (entry->shape != parameter.shape || !is_number)
      misfit.push_back(fmt::format("{} (expected F32, BF16 or F16 of {}, got {} of {})", name,
                                   quote_shape(parameter.shape), dtype_info(entry->dtype).name,
                                   quote_shape(entry->shape)));
  }
  for (const SafetensorsEntry& entry : file.entries())
    if (!expected.contains(entry.name)) extra.push_back(entry.name);
  std::string faults;
  const auto report = [&](const char* what, const std::vector<std::string>& names) {
    if (!names.empty()) faults += fmt::format("; {} {}: {}", names.size(), what, list_some(names));
  };
  report("missing", missing);
  report("of another shape or dtype", misfit);
  report("not of this adapter", extra);
  if (!faults.empty())
    throw_error<DataError>(
        "{}: expected the {} tensors that {} describes for this base model{}; is the adapter one of "
        "another base?",
        file.path(), unit.parameters.size(), kLoraConfigFile, faults);
}

void read_adapter_range(const SafetensorsFile& file, const UnitLayout& unit, int64_t begin, int64_t end,
                        std::span<float> values) {
  for_each_piece(unit, begin, end, values,
                 [&](const Parameter& parameter, int64_t first, int64_t, std::span<float> piece) {
                   const SafetensorsEntry& entry = file.at(peft_tensor_name(parameter));
                   file.read(entry, first, piece);
                   file.check_finite(entry, first, piece);
                 });
}

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
      adapter_(resolve_read_adapter(directory, config_, base)),
      unit_(adapter_layout(base, adapter_)),
      file_(open_weights(directory)) {
  check_adapter_tensors(file_, unit_);
}

const Parameter* PeftAdapter::find(ParameterKind kind, int64_t layer, AdapterPart part) const {
  const auto found = std::find_if(unit_.parameters.begin(), unit_.parameters.end(), [&](const Parameter& parameter) {
    return parameter.kind == kind && parameter.layer == layer && parameter.part == part;
  });
  return found == unit_.parameters.end() ? nullptr : &*found;
}

bool trains_whole(const Adapter& adapter, ParameterKind kind) {
  return std::find(adapter.whole.begin(), adapter.whole.end(), kind) != adapter.whole.end();
}

}  // namespace plumb
