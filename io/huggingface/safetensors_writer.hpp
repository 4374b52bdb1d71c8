// Makes the header of a safetensors file before any tensor exists, so that every writer knows its byte range.
// Source: github.com/huggingface/safetensors, README, format.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lib/base/dtype.hpp"

namespace plumb {

struct SafetensorsSpec {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<int64_t> shape;
  int64_t num_bytes() const;
};

/// The bytes before the buffer: length and JSON, padded to a multiple of 8. The tensors follow in the order given,
/// without gaps. Names must differ.
std::string render_safetensors_header(std::span<const SafetensorsSpec> tensors,
                                      const std::map<std::string, std::string>& metadata);

}  // namespace plumb
