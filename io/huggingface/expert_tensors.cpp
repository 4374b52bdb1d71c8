#include "io/huggingface/expert_tensors.hpp"

#include <algorithm>

#include "io/huggingface/parameter_names.hpp"
#include "lib/base/check.hpp"
#include "lib/model/mxfp4.hpp"

namespace plumb {

namespace {

using enum ParameterKind;

constexpr std::string_view kGateUpName = "mlp.experts.gate_up_proj", kDownName = "mlp.experts.down_proj";
constexpr std::string_view kRouterName = "mlp.gate.weight";

void require_form(const StoredTensor& tensor, const std::vector<int64_t>& shape) {
  const SafetensorsEntry& entry = *tensor.entry;
  if (entry.dtype != Dtype::kU8 || entry.shape != shape)
    throw_error<DataError>("{}: tensor {}: expected U8 of {}, as MXFP4 has it, got {} of {}", tensor.file->path(),
                           entry.name, quote_shape(shape), dtype_info(entry.dtype).name, quote_shape(entry.shape));
}

}  // namespace

std::vector<SafetensorsEntry> split_experts(const SafetensorsEntry& entry, std::string_view name,
                                            const ModelConfig& config) {
  const MixtureConfig& mixture = config.mixture;
  std::vector<SafetensorsEntry> parts;
  if (mixture.num_experts == 0 || mixture.is_gpt_oss) return parts;
  int64_t offset_bytes = entry.offset_bytes;
  const auto append = [&](const Parameter& parameter) {
    const int64_t size = parameter.num_elements();
    parts.push_back({hf_parameter_name(parameter), entry.dtype, parameter.shape, size, offset_bytes});
    offset_bytes += size * size_bytes(entry.dtype);
  };
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.is_mixture(layer)) continue;
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    if (!name.starts_with(prefix)) continue;
    const std::string_view part = name.substr(prefix.size());
    const int64_t d = config.hidden_size, size = mixture.expert_size, count = mixture.num_experts;
    const auto parameter = [&](ParameterKind kind, std::vector<int64_t> shape, int64_t expert) {
      return Parameter{kind, layer, std::move(shape), 0, AdapterPart::kWhole, naming_of(config), expert};
    };
    if (part == kRouterName && hf_parameter_name(parameter(kRouter, {}, -1)) != name)
      append(parameter(kRouter, entry.shape, -1));
    if (part == kGateUpName && entry.shape == std::vector<int64_t>{count, 2 * size, d})
      for (int64_t e = 0; e < count; ++e)
        for (const ParameterKind kind : {kExpertGate, kExpertUp}) append(parameter(kind, {size, d}, e));
    if (part == kDownName && entry.shape == std::vector<int64_t>{count, d, size})
      for (int64_t e = 0; e < count; ++e) append(parameter(kExpertDown, {d, size}, e));
  }
  return parts;
}

std::optional<StoredMxfp4> find_mxfp4(const std::string& name, const std::vector<int64_t>& shape,
                                      const FindTensor& find) {
  const StoredMxfp4 found = {find(name + "_blocks"), find(name + "_scales")};
  if (found.blocks.entry == nullptr && found.scales.entry == nullptr) return std::nullopt;
  for (const auto& [tensor, other, part] :
       {std::tuple(found.blocks, found.scales, "_blocks"), std::tuple(found.scales, found.blocks, "_scales")})
    if (tensor.entry == nullptr)
      throw_error<DataError>("{}: tensor {}: expected {}{} beside it, got none; is the checkpoint complete?",
                             other.file->path(), other.entry->name, name, part);
  if (shape[1] % kMxfp4BlockElements != 0)
    throw_error<DataError>("{}: tensor {}: expected inputs of experts that are a multiple of {}, got {}",
                           found.blocks.file->path(), found.blocks.entry->name, kMxfp4BlockElements, shape[1]);
  const int64_t num_blocks = shape[1] / kMxfp4BlockElements;
  require_form(found.blocks, {shape[0], shape[2], num_blocks, kMxfp4BlockBytes});
  require_form(found.scales, {shape[0], shape[2], num_blocks});
  return found;
}

void Mxfp4Reader::read(const StoredMxfp4& tensor, const std::vector<int64_t>& shape, int64_t begin,
                       std::span<float> values) const {
  const int64_t size = shape[1] * shape[2];
  while (!values.empty()) {
    const int64_t first = begin % size;
    const auto piece = values.first(std::min<int64_t>(std::ssize(values), size - first));
    const std::shared_ptr<const Expert> from = expert(tensor, shape, begin / size);
    std::copy_n(from->values.begin() + first, piece.size(), piece.begin());
    begin += std::ssize(piece);
    values = values.subspan(piece.size());
  }
}

std::shared_ptr<const Mxfp4Reader::Expert> Mxfp4Reader::expert(const StoredMxfp4& tensor,
                                                               const std::vector<int64_t>& shape, int64_t index) const {
  {
    const std::lock_guard lock(mutex_);
    if (last_ && last_->entry == tensor.blocks.entry && last_->index == index) return last_;
  }
  const int64_t in = shape[1], out = shape[2], num_blocks = in / kMxfp4BlockElements * out;
  std::vector<std::byte> codes(num_blocks * kMxfp4BlockBytes), scales(num_blocks);
  tensor.blocks.file->read(*tensor.blocks.entry, index * std::ssize(codes), std::span(codes));
  tensor.scales.file->read(*tensor.scales.entry, index * num_blocks, std::span(scales));
  std::vector<float> stored(in * out);
  mxfp4_dequantize(codes, scales, stored);
  if (const std::optional<int64_t> damaged = find_non_finite(stored))
    throw_error<DataError>("{}: tensor {}: expert {}: expected finite numbers, got {}; the weights are damaged",
                           tensor.scales.file->path(), tensor.scales.entry->name, index, stored[*damaged]);
  const auto made = std::make_shared<Expert>();
  made->entry = tensor.blocks.entry;
  made->index = index;
  made->values.resize(stored.size());
  for (int64_t o = 0; o < out; ++o)
    for (int64_t i = 0; i < in; ++i) made->values[i * out + o] = stored[o * in + i];
  const std::lock_guard lock(mutex_);
  last_ = made;
  return made;
}

}  // namespace plumb
