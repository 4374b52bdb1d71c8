#include "io/huggingface/hf_export.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file/file.hpp"
#include "io/huggingface/hf_model.hpp"
#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kStagedElements = 1 << 18;

std::string_view hf_dtype_name(Dtype dtype) { return dtype == Dtype::kF32 ? "float32" : "bfloat16"; }

/// The source's config with the few keys that an export sets and those of the other spelling, so that keys without a
/// meaning for plumb are preserved, and transformers 4 and 5 both read the model.
std::string adapt_source_config(const std::string& path, const ModelConfig& config, Dtype dtype,
                                std::optional<int32_t> eos_id) {
  json source = parse_config_object(read_text_file(path, kMaxConfigBytes), path);
  const bool is_part = source.contains("text_config");  // of a model of images, which is not exported
  if (is_part) source = json(source.at("text_config"));
  const json rendered = json::parse(render_model_config(config, hf_dtype_name(dtype)));
  source["architectures"] = rendered.at("architectures");
  if (is_part) source["model_type"] = rendered.at("model_type");
  for (const char* key : {"id2label", "label2id", "pad_token_id"})
    if (rendered.contains(key)) source[key] = rendered.at(key);
  source["tie_word_embeddings"] = config.ties_embeddings;
  source["vocab_size"] = config.vocab_size;
  const bool has_eos = !eos_id || std::count(config.eos_token_ids.begin(), config.eos_token_ids.end(), *eos_id) > 0;
  if (!has_eos) align_eos(source, eos_id);
  source.erase("quantization_config");  // exported weights are not quantized
  if (source.contains("dtype") || !source.contains("torch_dtype")) source["dtype"] = hf_dtype_name(dtype);
  if (source.contains("torch_dtype")) source["torch_dtype"] = hf_dtype_name(dtype);
  // what a spelling of another version of transformers leaves out
  for (const auto& [key, value] : rendered.items())
    if (!source.contains(key) && key != "dtype") source[key] = value;
  std::string text = source.dump(2) + "\n";

  ModelConfig described = parse_model_config(text, path);
  described.bos_token_id = config.bos_token_id;
  described.eos_token_ids = config.eos_token_ids;
  described.initializer_range = config.initializer_range;
  described.pad_token_id = config.pad_token_id;
  if (render_model_config(described, "float32") != render_model_config(config, "float32"))
    throw_error<DataError>(
        "{}: expected the config of the model that was trained, got another one; did it change since?", path);
  return text;
}

void write_converted(const File& file, Dtype dtype, int64_t offset_bytes, std::span<const float> values) {
  if (dtype == Dtype::kF32) return file.pwrite_exact(std::as_bytes(values), offset_bytes);
  std::vector<uint16_t> staged(std::min(values.size(), static_cast<size_t>(kStagedElements)));
  while (!values.empty()) {
    const auto bits = std::span(staged).first(std::min(values.size(), staged.size()));
    std::transform(values.begin(), values.begin() + static_cast<ptrdiff_t>(bits.size()), bits.begin(), float_to_bf16);
    file.pwrite_exact(std::as_bytes(bits), offset_bytes);
    values = values.subspan(bits.size());
    offset_bytes += static_cast<int64_t>(bits.size_bytes());
  }
}

}  // namespace

ExportNames model_export_names() { return {hf_parameter_name, "model"}; }

ExportPlan plan_export(const std::vector<UnitLayout>& units, Dtype dtype, int64_t max_file_bytes,
                       const ExportNames& names) {
  check(dtype == Dtype::kF32 || dtype == Dtype::kBf16, "an export is in float32 or bfloat16");
  std::vector<SafetensorsSpec> specs;
  for (const UnitLayout& unit : units)
    for (const Parameter& parameter : unit.parameters)
      specs.push_back({names.tensor(parameter), dtype, parameter.shape});
  ExportFiles placed = place_tensors(specs, max_file_bytes, names.file_stem);
  ExportPlan plan;
  plan.dtype = dtype;
  plan.files = std::move(placed.files);
  plan.num_parameters = num_parameters(units);
  plan.tensor_bytes = placed.tensor_bytes;
  size_t index = 0;
  for (const UnitLayout& unit : units) {
    std::vector<ExportTensor>& tensors = plan.units.emplace_back();
    for (const Parameter& parameter : unit.parameters) {
      const ExportFiles::Place& place = placed.places[index];
      tensors.push_back(
          {specs[index].name, parameter.offset, parameter.num_elements(), place.file, place.offset_bytes});
      ++index;
    }
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.unit_offset < b.unit_offset; });
  }
  return plan;
}

void create_export_files(const ExportPlan& plan, const std::string& temporary) {
  create_export_files(plan.files, temporary);
}

void write_unit_range(const ExportPlan& plan, const std::string& temporary, size_t unit_index, int64_t begin,
                      int64_t end, std::span<const float> values) {
  check(unit_index < plan.units.size() && begin >= 0 && begin <= end &&
            static_cast<int64_t>(values.size()) == end - begin,
        "values fill a range of a unit of the plan");
  std::optional<File> file;
  size_t open_file = 0;
  for (const ExportTensor& tensor : plan.units[unit_index]) {
    const int64_t first = std::max(begin, tensor.unit_offset);
    const int64_t last = std::min(end, tensor.unit_offset + tensor.num_elements);
    if (first >= last) continue;
    if (!file || open_file != tensor.file) {
      if (file) file->close();
      file = File::open_for_writing(join_path(temporary, plan.files[tensor.file].name));
      open_file = tensor.file;
    }
    write_converted(*file, plan.dtype, tensor.offset_bytes + (first - tensor.unit_offset) * size_bytes(plan.dtype),
                    values.subspan(first - begin, last - first));
  }
  if (file) file->close();
}

void sync_export_files(const ExportPlan& plan, const std::string& temporary) {
  sync_export_files(plan.files, temporary);
}

void finish_export(const ExportPlan& plan, const std::string& temporary, const ModelConfig& config,
                   const ExportedText& text) {
  const std::string& source_model_directory = text.tokenizer.model;
  sync_export_files(plan, temporary);
  std::map<std::string, size_t> file_by_tensor;
  for (const auto& unit : plan.units)
    for (const ExportTensor& tensor : unit) file_by_tensor[tensor.name] = tensor.file;
  write_export_index(plan.files, temporary, file_by_tensor, plan.num_parameters, plan.tensor_bytes);
  const std::string source_config = join_path(source_model_directory, "config.json");
  const bool has_source = !source_model_directory.empty() && is_regular_file(source_config);
  write_new_file(join_path(temporary, "config.json"),
                 has_source ? adapt_source_config(source_config, config, plan.dtype, text.eos_id)
                            : render_model_config(config, hf_dtype_name(plan.dtype)));
  if (!source_model_directory.empty()) write_text_files(text, config, temporary);
  sync_directory(temporary);
}

}  // namespace plumb
