// The JSON header of a safetensors file: its tensors and their places. Treated as hostile input: every number is
// checked before use, and the tensors must cover the buffer exactly, without gaps or overlaps. Source: the format
// section of the safetensors README, github.com/huggingface/safetensors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/dtype.hpp"

namespace plumb {

struct SafetensorsEntry {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
  int64_t num_elements = 0;
  int64_t offset_bytes = 0;  // within the buffer that follows the header
  int64_t num_bytes() const { return num_elements * size_bytes(dtype); }
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in buffer order
  std::map<std::string, std::string> metadata;
};

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;

/// text: the JSON, without the 8 bytes of its length. buffer_bytes: the rest of the file after it. Throws DataError
/// with `where` and the tensor for anything that the format forbids.
SafetensorsHeader parse_safetensors_header(std::string_view text, int64_t buffer_bytes, std::string_view where);

/// The shape as shown in messages: [512, 64].
std::string quote_shape(const std::vector<int64_t>& shape);

}  // namespace plumb
