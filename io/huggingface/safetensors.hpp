// Reads a safetensors file by byte ranges: opening reads only the header, and a read fetches only the requested
// elements, so that each rank loads only its shard. Source: github.com/huggingface/safetensors, README, format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/file/file.hpp"
#include "io/huggingface/safetensors_header.hpp"

namespace plumb {

/// Thread-safe: reads may run concurrently on any thread or rank.
class SafetensorsFile {
 public:
  /// Throws InputOutputError, and DataError for anything that the format forbids.
  explicit SafetensorsFile(const std::string& path);

  /// In file order.
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const std::string& path() const { return file_.path(); }

  /// Null if there is no such tensor; valid as long as this object.
  const SafetensorsEntry* find(std::string_view name) const;
  /// Throws DataError if there is no such tensor.
  const SafetensorsEntry& at(std::string_view name) const;

  /// Reads the stored bytes of elements [begin, begin + bytes.size() / size of one).
  void read(const SafetensorsEntry& entry, int64_t begin, std::span<std::byte> bytes) const;
  /// Reads elements [begin, begin + values.size()) of an F32, BF16, F16 or F64 tensor, converted exactly, of F64 to the
  /// nearest. NaN and infinity are accepted: see check_finite(). Throws DataError for another dtype.
  void read(const SafetensorsEntry& entry, int64_t begin, std::span<float> values) const;

  /// Throws DataError with file, tensor and element if one of `values`, read from `begin` on, is NaN or infinite.
  void check_finite(const SafetensorsEntry& entry, int64_t begin, std::span<const float> values) const;

 private:
  File file_;
  SafetensorsHeader header_;
  int64_t buffer_offset_bytes_ = 0;
  std::map<std::string, size_t, std::less<>> entry_by_name_;
};

/// A tensor of a directory and the file that contains it.
struct StoredTensor {
  const SafetensorsFile* file = nullptr;
  const SafetensorsEntry* entry = nullptr;
};

/// Weights may have any of these formats.
inline constexpr const char* kFloatDtypes = "F32, BF16, F16 or F64";
bool is_float(Dtype dtype);

/// True if both tensors have the same shape and values.
bool have_same_values(const StoredTensor& a, const StoredTensor& b);

/// The index of the first NaN or infinity.
std::optional<int64_t> find_non_finite(std::span<const float> values);

}  // namespace plumb
