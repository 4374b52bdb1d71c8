#include "io/huggingface/peft_adapter.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

constexpr int64_t kRowChunkElements = 1 << 18;

/// Opens what holds the weights, or says why not.
SafetensorsFile open_weights(const std::string& directory) {
  const std::string path = join_path(directory, kAdapterFile);
  if (!is_regular_file(path) && is_regular_file(join_path(directory, "adapter_model.bin")))
    throw_error<DataError>(
        "{}: expected weights in {}, got adapter_model.bin; pickled weights can run code and are never read: load and "
        "save the adapter with PEFT (save_pretrained), which writes safetensors",
        directory, kAdapterFile);
  return SafetensorsFile(path);
}

/// What an adapter's own file names and the base lacks is a fault of the file, not of the command line.
Adapter resolve_read_adapter(const std::string& directory, const LoraConfig& config, const ModelConfig& base) {
  try {
    return resolve_adapter(config, base);
  } catch (const UsageError& error) {
    throw_error<DataError>("{}: {}", join_path(directory, kLoraConfigFile), error.what());
  }
}

/// Calls use(parameter, first, last, values of these elements) for every parameter that meets [begin, end), first and
/// last counted within it; the rest of `values` becomes zero.
template <class Use>
void for_each_piece(const UnitLayout& unit, int64_t begin, int64_t end, std::span<float> values, Use use) {
  check(begin >= 0 && begin <= end && std::ssize(values) == end - begin, "a range of a unit fills its values");
  std::fill(values.begin(), values.end(), 0.0f);
  for (const Parameter& parameter : unit.parameters) {
    const int64_t first = std::max(begin, parameter.offset);
    const int64_t last = std::min(end, parameter.offset + parameter.num_elements());
    if (first >= last) continue;
    use(parameter, first - parameter.offset, last - parameter.offset,
        values.subspan(static_cast<size_t>(first - begin), static_cast<size_t>(last - first)));
  }
}

/// The unit and the parameter of the base that an adapter's parameter belongs to.
std::pair<const UnitLayout*, const Parameter*> find_base(const HfModel& base, const Parameter& wanted) {
  for (const UnitLayout& unit : base.units())
    for (const Parameter& parameter : unit.parameters)
      if (parameter.kind == wanted.kind && parameter.layer == wanted.layer) return {&unit, &parameter};
  check(false, "an adapter's parameter belongs to one of its base");
  return {};
}

/// Random numbers of an A; apart from those of a base's parameters.
uint64_t stream_of(const Parameter& parameter) {
  return uint64_t{1} << 62 | static_cast<uint64_t>(parameter.layer + 1) << 8 | static_cast<uint64_t>(parameter.kind);
}

void fill_uniform(const Parameter& a, uint64_t seed, int64_t first, std::span<float> values) {
  const double bound = 1 / std::sqrt(static_cast<double>(a.shape[1]));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t index = static_cast<uint64_t>(first) + i;
    values[i] = static_cast<float>(bound * (2 * random_uniform(seed, stream_of(a), index) - 1));
  }
}

/// Norms of rows first, first + 1, ... of the base's matrix, in double, from left to right.
void fill_row_norms(const HfModel& base, const Parameter& magnitude, int64_t first, std::span<float> norms) {
  const auto [unit, matrix] = find_base(base, magnitude);
  const int64_t row_elements = matrix->shape[1], last = first + std::ssize(norms);
  const int64_t rows_at_once = std::max<int64_t>(1, kRowChunkElements / row_elements);
  std::vector<float> rows;
  for (int64_t row = first; row < last; row += rows_at_once) {
    const int64_t num_rows = std::min(rows_at_once, last - row);
    rows.resize(static_cast<size_t>(num_rows * row_elements));
    const int64_t begin = matrix->offset + row * row_elements;
    base.read_unit_range(*unit, begin, begin + num_rows * row_elements, rows);
    for (int64_t i = 0; i < num_rows; ++i) {
      double sum = 0;
      for (const float x :
           std::span(rows).subspan(static_cast<size_t>(i * row_elements), static_cast<size_t>(row_elements)))
        sum += static_cast<double>(x) * static_cast<double>(x);
      norms[static_cast<size_t>(row - first + i)] = static_cast<float>(std::sqrt(sum));
    }
  }
}

}  // namespace

std::string peft_tensor_name(const Parameter& parameter) {
  const std::string module = "base_model.model." + module_path(parameter.kind, parameter.layer);
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

void initial_adapter_range(const HfModel& base, const Adapter& adapter, const UnitLayout& unit, uint64_t seed,
                           int64_t begin, int64_t end, std::span<float> values) {
  check(unit.num_elements == adapter_layout(base.config(), adapter).num_elements, "the unit is the adapter's");
  for_each_piece(unit, begin, end, values,
                 [&](const Parameter& parameter, int64_t first, int64_t last, std::span<float> piece) {
                   switch (parameter.part) {
                     case AdapterPart::kLoraA:
                       return fill_uniform(parameter, seed, first, piece);
                     case AdapterPart::kLoraB:
                       return;  // zero: training starts from the base itself
                     case AdapterPart::kMagnitude:
                       return fill_row_norms(base, parameter, first, piece);
                     case AdapterPart::kWhole: {
                       const auto [base_unit, whole] = find_base(base, parameter);
                       return base.read_unit_range(*base_unit, whole->offset + first, whole->offset + last, piece);
                     }
                   }
                 });
}

}  // namespace plumb
