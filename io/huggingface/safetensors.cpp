#include "io/huggingface/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kLengthBytes = 8;
constexpr size_t kStagedElements = 1 << 18;

uint64_t read_header_length(const File& file, int64_t file_bytes) {
  if (file_bytes < kLengthBytes)
    throw_error<DataError>("{}: expected a safetensors file of at least {} bytes, got {}", file.path(), kLengthBytes,
                           file_bytes);
  uint64_t length = 0;
  file.pread_exact(std::as_writable_bytes(std::span(&length, 1)), 0);
  const int64_t limit = std::min(kMaxSafetensorsHeaderBytes, file_bytes - kLengthBytes);
  if (length > static_cast<uint64_t>(limit))
    throw_error<DataError>(
        "{}: expected a header of at most {} bytes, got a length of {}; is it a safetensors file, and complete?",
        file.path(), limit, length);
  return length;
}

/// Reads values of type Stored piece by piece.
template <class Stored, class Convert>
void read_converted(const SafetensorsFile& file, const SafetensorsEntry& entry, int64_t begin, std::span<float> values,
                    Convert convert) {
  std::vector<Stored> staged(std::min(values.size(), kStagedElements));
  while (!values.empty()) {
    const auto piece = std::span(staged).first(std::min(values.size(), staged.size()));
    file.read(entry, begin, std::as_writable_bytes(piece));
    std::transform(piece.begin(), piece.end(), values.begin(), convert);
    values = values.subspan(piece.size());
    begin += static_cast<int64_t>(piece.size());
  }
}

/// False if all exponent bits are set. An integer test, so that no floating-point option of the compiler can remove it.
bool is_finite(float value) { return (std::bit_cast<uint32_t>(value) & 0x7f800000u) != 0x7f800000u; }

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(File::open_for_reading(path)) {
  const int64_t file_bytes = file_.size_bytes();
  std::string text(read_header_length(file_, file_bytes), '\0');
  file_.pread_exact(std::as_writable_bytes(std::span(text)), kLengthBytes);
  buffer_offset_bytes_ = kLengthBytes + static_cast<int64_t>(text.size());
  header_ = parse_safetensors_header(text, file_bytes - buffer_offset_bytes_, path);
  for (size_t i = 0; i < header_.entries.size(); ++i) entry_by_name_[header_.entries[i].name] = i;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = entry_by_name_.find(name);
  return found == entry_by_name_.end() ? nullptr : &header_.entries[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  if (entry == nullptr) throw_error<DataError>("{}: expected a tensor {}, got none of that name", path(), name);
  return *entry;
}

void SafetensorsFile::read(const SafetensorsEntry& entry, int64_t begin, std::span<std::byte> bytes) const {
  const int64_t element_bytes = size_bytes(entry.dtype);
  const int64_t num_bytes = static_cast<int64_t>(bytes.size());
  check(begin >= 0 && begin <= entry.num_elements && num_bytes % element_bytes == 0 &&
            num_bytes / element_bytes <= entry.num_elements - begin,
        "a read stays within its tensor");
  file_.pread_exact(bytes, buffer_offset_bytes_ + entry.offset_bytes + begin * element_bytes);
}

void SafetensorsFile::read(const SafetensorsEntry& entry, int64_t begin, std::span<float> values) const {
  switch (entry.dtype) {
    case Dtype::kF32:
      return read(entry, begin, std::as_writable_bytes(values));
    case Dtype::kBf16:
      return read_converted<uint16_t>(*this, entry, begin, values, bf16_to_float);
    case Dtype::kF16:
      return read_converted<uint16_t>(*this, entry, begin, values, f16_to_float);
    case Dtype::kF64:
      return read_converted<double>(*this, entry, begin, values,
                                    [](double value) { return static_cast<float>(value); });
    default:
      throw_error<DataError>("{}: tensor {}: expected dtype {}, got {}", path(), entry.name, kFloatDtypes,
                             dtype_info(entry.dtype).name);
  }
}

void SafetensorsFile::check_finite(const SafetensorsEntry& entry, int64_t begin, std::span<const float> values) const {
  if (const std::optional<int64_t> index = find_non_finite(values))
    throw_error<DataError>("{}: tensor {}: element {}: expected a finite number, got {}; the weights are damaged",
                           path(), entry.name, begin + *index, values[*index]);
}

bool is_float(Dtype dtype) {
  return dtype == Dtype::kF32 || dtype == Dtype::kBf16 || dtype == Dtype::kF16 || dtype == Dtype::kF64;
}

bool have_same_values(const StoredTensor& a, const StoredTensor& b) {
  if (a.entry->shape != b.entry->shape) return false;
  const int64_t num_elements = a.entry->num_elements;
  std::vector<float> values_a(kStagedElements), values_b(kStagedElements);
  for (int64_t begin = 0; begin < num_elements; begin += std::ssize(values_a)) {
    const int64_t size = std::min(std::ssize(values_a), num_elements - begin);
    const std::span piece_a = std::span(values_a).first(size), piece_b = std::span(values_b).first(size);
    a.file->read(*a.entry, begin, piece_a);
    b.file->read(*b.entry, begin, piece_b);
    if (!std::equal(piece_a.begin(), piece_a.end(), piece_b.begin())) return false;
  }
  return true;
}

std::optional<int64_t> find_non_finite(std::span<const float> values) {
  const auto found = std::find_if(values.begin(), values.end(), [](float value) { return !is_finite(value); });
  if (found == values.end()) return std::nullopt;
  return found - values.begin();
}

}  // namespace plumb
