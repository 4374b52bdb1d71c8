#include "io/huggingface/nf4_export.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "io/file/file.hpp"
#include "io/huggingface/exported_text.hpp"
#include "io/huggingface/nf4_tensors.hpp"
#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"
#include "lib/model/quantization_config.hpp"

namespace plumb {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kChunkElements = 1 << 20;
constexpr int64_t kMapValues = 256;
/// The longest text of a double.
constexpr size_t kNumberChars = 24;

const char* torch_name(Dtype dtype) {
  return dtype == Dtype::kBf16 ? "bfloat16" : dtype == Dtype::kF16 ? "float16" : "float32";
}

/// The JSON next to a matrix. It is padded with spaces, which readers skip, so that its size depends on the shape only:
/// the place of every tensor is known before any is quantized.
std::string render_state(const Parameter& parameter, Dtype original_dtype, bool is_nested, float nested_mean) {
  ordered_json state = {{"quant_type", "nf4"},
                        {"blocksize", kNf4BlockElements},
                        {"dtype", torch_name(original_dtype)},
                        {"shape", parameter.shape}};
  if (!is_nested) return state.dump();
  state["nested_blocksize"] = kNf4NestedElements;
  state["nested_dtype"] = "float32";
  std::string text = state.dump();
  const std::string mean = json(static_cast<double>(nested_mean)).dump();
  text.pop_back();
  return text + ",\"nested_offset\":" + mean + "}" + std::string(kNumberChars - mean.size(), ' ');
}

/// The tensors of a quantized matrix, in the order of `quantized_parts`.
std::vector<SafetensorsSpec> quantized_specs(const HfModel& model, const Parameter& parameter) {
  const Nf4Layout layout = model.nf4_layout_of(parameter);
  const std::string name = hf_parameter_name(parameter);
  const std::string state = render_state(parameter, model.original_dtype_of(parameter), layout.is_nested, 0);
  std::vector<SafetensorsSpec> specs = {
      {name, Dtype::kU8, {layout.num_code_bytes(), 1}},
      {name + ".absmax", layout.is_nested ? Dtype::kU8 : Dtype::kF32, {layout.num_blocks()}},
      {name + ".quant_map", Dtype::kF32, {kNf4Codes}},
      {name + kNf4StateSuffix, Dtype::kU8, {std::ssize(state)}}};
  if (!layout.is_nested) return specs;
  specs.push_back({name + ".nested_absmax", Dtype::kF32, {layout.num_nested_blocks()}});
  specs.push_back({name + ".nested_quant_map", Dtype::kF32, {kMapValues}});
  return specs;
}

void write_quantized(const HfModel& model, const Nf4ExportPlan::PlannedParameter& planned,
                     const std::function<void(size_t, std::span<const std::byte>)>& write) {
  const Nf4Layout layout = model.nf4_layout_of(planned.parameter);
  std::vector<std::byte> bytes(layout.num_bytes);
  model.read_nf4(planned.parameter, bytes);
  float mean = 0;
  if (layout.is_nested) std::memcpy(&mean, bytes.data() + layout.nested_mean_offset, sizeof(mean));
  const std::string state =
      render_state(planned.parameter, model.original_dtype_of(planned.parameter), layout.is_nested, mean);
  const auto part = [&](size_t index, int64_t offset) {
    write(index, std::span(bytes).subspan(offset, planned.tensors.at(index).num_bytes));
  };
  part(0, layout.codes_offset);
  part(1, layout.absmax_offset);
  write(2, std::as_bytes(std::span(nf4_code_values())));
  write(3, std::as_bytes(std::span(state)));
  if (!layout.is_nested) return;
  part(4, layout.nested_absmax_offset);
  part(5, layout.nested_map_offset);
}

}  // namespace

Nf4ExportPlan plan_nf4_export(const HfModel& model, int64_t max_file_bytes) {
  Nf4ExportPlan plan;
  std::vector<SafetensorsSpec> specs;
  for (const UnitLayout& unit : model.units()) {
    for (const Parameter& parameter : unit.parameters) {
      const bool is_quantized = model.is_quantized(parameter);
      std::vector<SafetensorsSpec> own;
      if (is_quantized) {
        own = quantized_specs(model, parameter);
        plan.has_nested_scales = model.nf4_layout_of(parameter).is_nested;
        plan.compute_dtype = model.original_dtype_of(parameter);
        ++plan.num_quantized;
      } else {
        const SafetensorsEntry& entry = *model.stored_tensor(parameter).entry;
        own = {{hf_parameter_name(parameter), entry.dtype, entry.shape}};
      }
      Nf4ExportPlan::PlannedParameter& planned = plan.parameters.emplace_back();
      planned.parameter = parameter;
      planned.is_quantized = is_quantized;
      for (const SafetensorsSpec& spec : own) planned.tensors.push_back({spec.name, {}, spec.num_bytes()});
      specs.insert(specs.end(), own.begin(), own.end());
    }
  }
  check(plan.num_quantized > 0, "the model has NF4 matrices");
  ExportFiles placed = place_tensors(specs, max_file_bytes);
  size_t index = 0;
  for (auto& planned : plan.parameters)
    for (Nf4ExportPlan::Tensor& tensor : planned.tensors) tensor.place = placed.places[index++];
  plan.files = std::move(placed.files);
  plan.tensor_bytes = placed.tensor_bytes;
  plan.num_parameters = num_parameters(model.units());
  return plan;
}

void write_nf4_parameter(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model, size_t index) {
  const Nf4ExportPlan::PlannedParameter& planned = plan.parameters.at(index);
  const auto write_at = [&](size_t tensor, int64_t offset_bytes, std::span<const std::byte> bytes) {
    const ExportFiles::Place& place = planned.tensors.at(tensor).place;
    File file = File::open_for_writing(join_path(temporary, plan.files.at(place.file).name));
    file.pwrite_exact(bytes, place.offset_bytes + offset_bytes);
    file.close();
  };
  if (planned.is_quantized) {
    write_quantized(model, planned, [&](size_t tensor, std::span<const std::byte> bytes) {
      check(std::ssize(bytes) == planned.tensors.at(tensor).num_bytes, "a part has the size that was planned");
      write_at(tensor, 0, bytes);
    });
    return;
  }
  const StoredTensor stored = model.stored_tensor(planned.parameter);
  const SafetensorsEntry& entry = *stored.entry;
  for (int64_t begin = 0; begin < entry.num_elements; begin += kChunkElements) {
    const auto count = static_cast<size_t>(std::min(kChunkElements, entry.num_elements - begin));
    std::vector<float> values(count);
    stored.file->read(entry, begin, std::span(values));
    stored.file->check_finite(entry, begin, values);
    std::vector<std::byte> bytes(count * static_cast<size_t>(size_bytes(entry.dtype)));
    stored.file->read(entry, begin, std::span(bytes));
    write_at(0, begin * size_bytes(entry.dtype), bytes);
  }
}

void finish_nf4_export(const Nf4ExportPlan& plan, const std::string& temporary, const HfModel& model) {
  sync_export_files(plan.files, temporary);
  std::map<std::string, size_t> file_by_tensor;
  for (const auto& planned : plan.parameters)
    for (const Nf4ExportPlan::Tensor& tensor : planned.tensors) file_by_tensor[tensor.name] = tensor.place.file;
  write_export_index(plan.files, temporary, file_by_tensor, plan.num_parameters, plan.tensor_bytes);
  const std::string path = join_path(model.directory(), "config.json");
  json config = parse_config_object(read_text_file(path, kMaxConfigBytes), path);
  config["quantization_config"] = render_quantization_config(plan.has_nested_scales, torch_name(plan.compute_dtype));
  write_new_file(join_path(temporary, "config.json"), config.dump(2) + "\n");
  write_text_files({.tokenizer = {model.directory()}}, model.config(), temporary);
  sync_directory(temporary);
}

}  // namespace plumb
