#include "io/huggingface/nf4_tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "lib/base/check.hpp"
#include "lib/model/config_json.hpp"

namespace plumb {

using nlohmann::json;

namespace {

constexpr int64_t kMaxStateBytes = 16 << 10;
constexpr int64_t kMapValues = 256;
/// A piece that starts at a multiple of this many elements shares no scale with the elements before it.
constexpr int64_t kPieceAlignment = kNf4BlockElements * kNf4NestedElements;
constexpr int64_t kPieceElements = 64 * kPieceAlignment;

[[noreturn]] void fail(const StoredTensor& tensor, std::string_view expected, std::string_view got) {
  throw_error<DataError>("{}: tensor {}: expected {}, got {}", tensor.file->path(), tensor.entry->name, expected, got);
}

std::string describe(const SafetensorsEntry& entry) {
  return fmt::format("{} of {}", dtype_info(entry.dtype).name, quote_shape(entry.shape));
}

/// The tensor NAME.part; `of` is the tensor NAME of the codes.
StoredTensor require_part(const StoredTensor& of, const std::string& part, const FindTensor& find) {
  const StoredTensor found = find(of.entry->name + part);
  if (found.entry == nullptr)
    throw_error<DataError>("{}: tensor {}: expected {}{} beside it, got none; is the checkpoint complete?",
                           of.file->path(), of.entry->name, of.entry->name, part);
  return found;
}

void require_form(const StoredTensor& tensor, Dtype dtype, int64_t size) {
  if (tensor.entry->dtype != dtype || tensor.entry->shape != std::vector<int64_t>{size})
    fail(tensor, fmt::format("{} of {}", dtype_info(dtype).name, quote_shape({size})),
         describe(*tensor.entry) + "; is the file complete, and of this model?");
}

std::vector<float> read_floats(const StoredTensor& tensor) {
  std::vector<float> values(tensor.entry->num_elements);
  tensor.file->read(*tensor.entry, 0, std::span(values));
  tensor.file->check_finite(*tensor.entry, 0, values);
  return values;
}

json read_state(const StoredTensor& tensor) {
  const SafetensorsEntry& entry = *tensor.entry;
  if (entry.dtype != Dtype::kU8 || entry.shape.size() != 1 || entry.num_elements > kMaxStateBytes)
    fail(tensor, fmt::format("at most {} bytes of JSON", kMaxStateBytes), describe(entry));
  std::string text(entry.num_elements, '\0');
  tensor.file->read(entry, 0, std::as_writable_bytes(std::span(text)));
  return parse_config_object(text, fmt::format("{}: tensor {}", tensor.file->path(), entry.name));
}

Dtype parse_original_dtype(const ConfigReader& state) {
  const std::string name = state.string("dtype");
  if (name == "float32") return Dtype::kF32;
  if (name == "bfloat16") return Dtype::kBf16;
  if (name == "float16") return Dtype::kF16;
  state.fail("dtype", "float32, bfloat16 or float16");
}

/// Checks the JSON of a matrix of this shape; is_nested: the files have quantized scales.
void check_state(const ConfigReader& state, const std::vector<int64_t>& shape, bool is_nested) {
  if (state.string("quant_type") != "nf4") state.fail("quant_type", "nf4, the only type supported");
  if (state.integer("blocksize", 1, 1 << 30) != kNf4BlockElements)
    state.fail("blocksize", fmt::format("{}, the only size supported", kNf4BlockElements));
  if (!state.has("shape") || state.object().at("shape") != json(shape)) state.fail("shape", quote_shape(shape));
  const bool says_nested = state.has("nested_blocksize") || state.has("nested_offset");
  if (says_nested != is_nested)
    throw_error<DataError>("{}: expected {} nested_blocksize and nested_offset, as there is {} nested_absmax, got {}",
                           state.where(), is_nested ? "a" : "no", is_nested ? "a tensor" : "no tensor",
                           says_nested ? "some" : "none");
  if (!is_nested) return;
  if (state.integer("nested_blocksize", 1, 1 << 30) != kNf4NestedElements)
    state.fail("nested_blocksize", fmt::format("{}, the only size supported", kNf4NestedElements));
  if (state.string_or("nested_dtype", "float32") != "float32") state.fail("nested_dtype", "float32");
}

void check_code_map(const StoredTensor& tensor) {
  require_form(tensor, Dtype::kF32, kNf4Codes);
  const std::vector<float> values = read_floats(tensor);
  const auto& expected = nf4_code_values();
  for (size_t i = 0; i < kNf4Codes; ++i)
    if (values[i] != expected[i])
      fail(tensor, fmt::format("the values of NF4, of which number {} is {}", i, expected[i]),
           fmt::format("{}", values[i]));
}

/// The codes may be stored as numbers of several bytes, which sharding in PyTorch requires.
void check_codes(const StoredTensor& tensor, int64_t num_code_bytes) {
  const SafetensorsEntry& entry = *tensor.entry;
  if (entry.num_bytes() != num_code_bytes || entry.shape.size() != 2 || entry.shape[1] != 1)
    fail(tensor, fmt::format("{} bytes of codes in one column", num_code_bytes), describe(entry));
}

std::span<std::byte> part_of(std::span<std::byte> bytes, int64_t offset, int64_t size) {
  return bytes.subspan(offset, size);
}

void read_finite(const StoredTensor& tensor, int64_t begin, std::span<std::byte> bytes) {
  tensor.file->read(*tensor.entry, begin, bytes);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  tensor.file->check_finite(*tensor.entry, begin, values);
}

/// Reads a whole number of groups of scales, from element `begin` on, as a matrix of its own.
void read_piece(const StoredNf4& matrix, int64_t begin, const Nf4Layout& piece, std::span<std::byte> bytes) {
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  const int64_t first_block = begin / kNf4BlockElements;
  const SafetensorsEntry& codes = *matrix.codes.entry;
  matrix.codes.file->read(codes, begin / 2 / size_bytes(codes.dtype),
                          part_of(bytes, piece.codes_offset, piece.num_code_bytes()));
  if (!piece.is_nested) {
    const auto scales = part_of(bytes, piece.absmax_offset, piece.num_blocks() * int64_t{sizeof(float)});
    return read_finite(matrix.absmax, first_block, scales);
  }
  matrix.absmax.file->read(*matrix.absmax.entry, first_block, part_of(bytes, piece.absmax_offset, piece.num_blocks()));
  read_finite(matrix.nested_absmax, first_block / kNf4NestedElements,
              part_of(bytes, piece.nested_absmax_offset, piece.num_nested_blocks() * int64_t{sizeof(float)}));
  read_finite(matrix.nested_map, 0, part_of(bytes, piece.nested_map_offset, kMapValues * int64_t{sizeof(float)}));
  std::memcpy(bytes.data() + piece.nested_mean_offset, &matrix.nested_mean, sizeof(float));
}

}  // namespace

const std::array<float, kNf4Codes>& nf4_code_values() {
  // dequantizes a matrix of the codes 0 to 15 with scale 1
  static const std::array<float, kNf4Codes> values = [] {
    const Nf4Layout layout = nf4_layout(kNf4Codes, false);
    std::vector<std::byte> bytes(layout.num_bytes);
    for (size_t i = 0; i < kNf4Codes / 2; ++i)
      bytes[layout.codes_offset + i] = static_cast<std::byte>(2 * i << 4 | (2 * i + 1));
    const float scale = 1;
    std::memcpy(bytes.data() + layout.absmax_offset, &scale, sizeof(scale));
    std::array<float, kNf4Codes> codes{};
    nf4_dequantize({layout, bytes.data(), Dtype::kF32}, 0, codes);
    return codes;
  }();
  return values;
}

bool has_nf4_parts(const std::string& name, const FindTensor& find) {
  for (const char* part : {".absmax", ".quant_map", kNf4StateSuffix, ".quant_state.bitsandbytes__fp4"})
    if (find(name + part).entry != nullptr) return true;
  return false;
}

StoredNf4 open_nf4(const std::string& name, const std::vector<int64_t>& shape, const FindTensor& find) {
  StoredNf4 matrix;
  matrix.name = name;
  matrix.codes = find(name);
  check(matrix.codes.entry != nullptr, "a matrix that is opened exists");
  if (find(name + ".quant_state.bitsandbytes__fp4").entry != nullptr)
    fail(matrix.codes, "a matrix of type nf4, the only one supported", "fp4");
  const StoredTensor state_tensor = require_part(matrix.codes, kNf4StateSuffix, find);
  const StoredTensor code_map = require_part(matrix.codes, ".quant_map", find);
  matrix.absmax = require_part(matrix.codes, ".absmax", find);
  matrix.nested_absmax = find(name + ".nested_absmax");
  const bool is_nested = matrix.nested_absmax.entry != nullptr;
  matrix.part_names = {state_tensor.entry->name, code_map.entry->name, matrix.absmax.entry->name};

  const json object = read_state(state_tensor);
  const ConfigReader state(object, fmt::format("{}: tensor {}", state_tensor.file->path(), state_tensor.entry->name));
  check_state(state, shape, is_nested);
  matrix.original_dtype = parse_original_dtype(state);
  matrix.layout = nf4_layout(shape.at(0) * shape.at(1), is_nested);
  check_codes(matrix.codes, matrix.layout.num_code_bytes());
  check_code_map(code_map);
  require_form(matrix.absmax, is_nested ? Dtype::kU8 : Dtype::kF32, matrix.layout.num_blocks());
  if (!is_nested) return matrix;
  constexpr double kMaxMean = std::numeric_limits<float>::max();
  matrix.nested_mean = static_cast<float>(state.number("nested_offset", -kMaxMean, kMaxMean));
  require_form(matrix.nested_absmax, Dtype::kF32, matrix.layout.num_nested_blocks());
  matrix.nested_map = require_part(matrix.codes, ".nested_quant_map", find);
  require_form(matrix.nested_map, Dtype::kF32, kMapValues);
  read_floats(matrix.nested_map);
  matrix.part_names.insert(matrix.part_names.end(), {matrix.nested_absmax.entry->name, matrix.nested_map.entry->name});
  return matrix;
}

void read_stored_nf4(const StoredNf4& matrix, std::span<std::byte> bytes) {
  check(static_cast<int64_t>(bytes.size()) == matrix.layout.num_bytes, "a quantized matrix fills its bytes");
  read_piece(matrix, 0, matrix.layout, bytes);
}

void read_stored_nf4(const StoredNf4& matrix, int64_t begin, std::span<float> values) {
  check(begin >= 0 && begin + std::ssize(values) <= matrix.layout.num_elements, "a read stays within its matrix");
  std::vector<std::byte> bytes;
  while (!values.empty()) {
    const int64_t piece_begin = begin / kPieceAlignment * kPieceAlignment;
    const int64_t wanted_end = (begin + std::ssize(values) + kPieceAlignment - 1) / kPieceAlignment * kPieceAlignment;
    const int64_t piece_end = std::min({matrix.layout.num_elements, wanted_end, piece_begin + kPieceElements});
    const Nf4Layout layout = nf4_layout(piece_end - piece_begin, matrix.layout.is_nested);
    bytes.resize(layout.num_bytes);
    read_piece(matrix, piece_begin, layout, bytes);
    const auto out = values.first(std::min(values.size(), static_cast<size_t>(piece_end - begin)));
    nf4_dequantize({layout, bytes.data(), matrix.original_dtype}, begin - piece_begin, out);
    matrix.codes.file->check_finite(*matrix.codes.entry, begin, out);
    values = values.subspan(out.size());
    begin = piece_end;
  }
}

}  // namespace plumb
