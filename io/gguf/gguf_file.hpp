// The container of a GGUF file, version 3: metadata, a list of tensors, then their data, all little-endian.
// Source: docs/gguf.md of ggml-org/ggml.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "io/gguf/gguf_numbers.hpp"

namespace plumb {

using GgufValue = std::variant<uint32_t, float, bool, std::string, std::vector<std::string>, std::vector<float>,
                               std::vector<int32_t>>;
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;  // in the order of the file

struct GgufTensorInfo {
  std::string name;
  std::vector<int64_t> shape;  // [out, in], [n] or [experts, out, in]; the file has the last dimension first
  GgufNumber number = GgufNumber::kF32;

  int64_t row_elements() const { return shape.back(); }
  int64_t num_rows() const {
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    return rows;
  }
  int64_t num_bytes() const { return num_rows() * encoded_bytes(number, row_elements()); }
};

struct GgufLayout {
  std::string header;                 // all bytes before the data
  std::vector<int64_t> offset_bytes;  // of each tensor, within the file
  int64_t size_bytes = 0;             // of the file
};

/// Tensors follow each other in the given order, each at a multiple of 32 bytes.
GgufLayout lay_out_gguf(const GgufMetadata& metadata, const std::vector<GgufTensorInfo>& tensors);

}  // namespace plumb
