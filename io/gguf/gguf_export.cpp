#include "io/gguf/gguf_export.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <span>

#include "io/file/file.hpp"
#include "io/huggingface/tokenizer_reading.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;

/// A bias is a column: its rows are permuted like those of its matrix.
struct Rows {
  int64_t count, width;
};
Rows rows_of(const GgufTensorInfo& info) {
  return info.shape.size() == 1 ? Rows{info.shape[0], 1} : Rows{info.num_rows(), info.row_elements()};
}

/// Within each block of rows, row i of the first half and row i of the second become rows 2 i and 2 i + 1.
void permute_rows(std::span<const float> from, int64_t width, int64_t block_rows, std::span<float> to) {
  const int64_t num_rows = std::ssize(from) / width, half = block_rows / 2;
  for (int64_t row = 0; row < num_rows; ++row) {
    const int64_t in_block = row % block_rows;
    const int64_t target = row - in_block + 2 * (in_block % half) + in_block / half;
    std::copy_n(from.begin() + row * width, width, to.begin() + target * width);
  }
}

void write_encoded(const File& file, GgufNumber number, std::span<const float> values, int64_t offset_bytes) {
  std::vector<std::byte> bytes(encoded_bytes(number, std::ssize(values)));
  encode(number, values, bytes);
  file.pwrite_exact(bytes, offset_bytes);
}

/// Writes the part of a parameter for all experts, one expert at a time.
void write_outputs(const File& file, const GgufTensor& tensor, const HfModel& model, int64_t offset_bytes) {
  const UnitLayout& unit = model.units()[tensor.unit];
  const Parameter& parameter = unit.parameters[tensor.parameters.front()];
  const int64_t num_experts = parameter.shape.front(), out = parameter.shape.back();
  const int64_t size = parameter.num_elements() / num_experts, in = size / out;
  std::vector<float> values(size), taken;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    const int64_t begin = parameter.offset + expert * size;
    model.read_unit_range(unit, begin, begin + size, values);
    taken.clear();
    for (int64_t o = tensor.outputs.first; o < out; o += tensor.outputs.step)
      for (int64_t i = 0; i < in; ++i) taken.push_back(values[i * out + o]);
    write_encoded(file, tensor.info.number, taken, offset_bytes);
    offset_bytes += encoded_bytes(tensor.info.number, std::ssize(taken));
  }
}

void write_parameter(const File& file, const GgufTensor& tensor, const HfModel& model, size_t index,
                     int64_t offset_bytes) {
  const UnitLayout& unit = model.units()[tensor.unit];
  const int64_t first = unit.parameters[index].offset;
  Rows rows = rows_of(tensor.info);
  rows.count /= std::ssize(tensor.parameters);
  const int64_t step = std::max<int64_t>(tensor.permuted_rows, 1);
  const int64_t rows_at_once = std::max<int64_t>(kChunkElements / rows.width / step, 1) * step;
  std::vector<float> values, permuted;
  for (int64_t row = 0; row < rows.count; row += rows_at_once) {
    const int64_t begin = row * rows.width, end = std::min(row + rows_at_once, rows.count) * rows.width;
    values.resize(end - begin);
    model.read_unit_range(unit, first + begin, first + end, values);
    for (float& value : values) value += tensor.addend;
    if (tensor.permuted_rows > 0) {
      permuted.resize(values.size());
      permute_rows(values, rows.width, tensor.permuted_rows, permuted);
      values.swap(permuted);
    }
    write_encoded(file, tensor.info.number, values, offset_bytes + encoded_bytes(tensor.info.number, begin));
  }
}

std::string directory_name(const std::string& directory) {
  return std::filesystem::weakly_canonical(directory).filename().string();
}

/// llama.cpp changes how a model tokenizes whose name is like that of Phi-3, and does not load it where the vocabulary
/// lacks the tokens of Phi-3.
bool is_misread_as_phi3(std::string name, const GgufMetadata& metadata) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (name.find("phi3") == std::string::npos && name.find("phi-3") == std::string::npos) return false;
  for (const auto& [key, value] : metadata) {
    if (key != "tokenizer.ggml.tokens") continue;
    const auto& tokens = std::get<std::vector<std::string>>(value);
    for (const char* token : {"<unk>", "<s>", "</s>", "<|endoftext|>"})
      if (std::find(tokens.begin(), tokens.end(), token) == tokens.end()) return true;
  }
  return false;
}

void add_notes(const ModelConfig& config, GgufNumber number, GgufPlan& plan) {
  if (gguf_context_length(config) < config.max_position_embeddings)
    plan.notes.push_back(
        fmt::format("llama.cpp attends to all tokens in this family, not to a sliding window: its "
                    "results are those of plumb for up to {} tokens, which is the context_length",
                    gguf_context_length(config)));
  if (config.rope.kind == RopeConfig::Kind::kLongRope)
    plan.notes.push_back(
        fmt::format("llama.cpp takes the long factors of LongRoPE where its context is of more than {0} tokens, "
                    "transformers where the text is: for shorter texts start it with -c {0}",
                    config.rope.original_max_position_embeddings));
  if (config.rope.kind == RopeConfig::Kind::kYarn && !config.rope.truncates_ramp)
    plan.notes.push_back(
        "llama.cpp rounds the ends of YaRN's ramp to whole dimensions, which this model does not (truncate false): its "
        "results differ slightly, as with every GGUF file of gpt-oss");
  const int64_t num_plain = std::count_if(plan.tensors.begin(), plan.tensors.end(), [&](const GgufTensor& tensor) {
    return number == GgufNumber::kQ8_0 && tensor.info.row_elements() % kQ8BlockElements != 0 &&
           tensor.info.shape.size() > 1 && tensor.info.name.ends_with(".weight");
  });
  if (num_plain > 0)
    plan.notes.push_back(fmt::format("{} matrices are float32, as their rows are no multiple of {} elements", num_plain,
                                     kQ8BlockElements));
}

}  // namespace

GgufPlan plan_gguf_export(const HfModel& model, const TokenizerSource& tokenizer, const std::vector<int32_t>& end_ids,
                          GgufNumber number) {
  const ModelConfig& config = model.config();
  check_gguf_model(config, model.directory());
  GgufTokenizer text = gguf_tokenizer(load_tokenizer_parts(tokenizer), end_ids, config.vocab_size, model.directory());
  std::string name = directory_name(model.directory());
  const bool is_misread = is_misread_as_phi3(name, text.metadata);
  if (is_misread) name = "model";
  GgufMetadata metadata = gguf_model_metadata(config, number, name);
  metadata.insert(metadata.end(), text.metadata.begin(), text.metadata.end());
  GgufPlan plan;
  plan.tensors = gguf_tensors(config, number, model.directory());
  plan.notes = std::move(text.notes);
  if (is_misread)
    plan.notes.push_back(
        fmt::format("general.name is {}, as llama.cpp would read the vocabulary of a model of the "
                    "name of its directory as that of Phi-3",
                    name));
  add_notes(config, number, plan);
  std::vector<GgufTensorInfo> infos;
  for (const GgufTensor& tensor : plan.tensors) infos.push_back(tensor.info);
  plan.layout = lay_out_gguf(metadata, infos);
  return plan;
}

void create_gguf_file(const GgufPlan& plan, const std::string& temporary) {
  File file = File::create(temporary);
  file.reserve(plan.layout.size_bytes);
  file.pwrite_exact(std::as_bytes(std::span(plan.layout.header)), 0);
  file.close();
}

void write_gguf_tensor(const GgufPlan& plan, const std::string& temporary, const HfModel& model, int64_t index) {
  const GgufTensor& tensor = plan.tensors[index];
  const int64_t offset_bytes = plan.layout.offset_bytes[index];
  File file = File::open_for_writing(temporary);
  if (tensor.outputs.step > 0) {
    write_outputs(file, tensor, model, offset_bytes);
  } else if (tensor.values.empty()) {
    const int64_t bytes = tensor.info.num_bytes() / std::ssize(tensor.parameters);
    for (size_t i = 0; i < tensor.parameters.size(); ++i)
      write_parameter(file, tensor, model, tensor.parameters[i], offset_bytes + static_cast<int64_t>(i) * bytes);
  } else {
    write_encoded(file, tensor.info.number, tensor.values, offset_bytes);
  }
  file.close();
}

}  // namespace plumb
