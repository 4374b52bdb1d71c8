// NF4: a matrix with 4 bits per element. Blocks of 64 elements of the flattened matrix are scaled by their largest
// magnitude, and those scales are stored in 8 bits (double quantization, blocks of 256). The bytes are those of
// bitsandbytes.
// Source: QLoRA, arXiv:2305.14314; format: bitsandbytes, functional.py and csrc/kernels.cu.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/dtype.hpp"

namespace plumb {

inline constexpr int64_t kNf4BlockElements = 64;
inline constexpr int64_t kNf4NestedElements = 256;  // scales per second-level scale

/// The offsets of the parts of one quantized matrix in a byte buffer; each part starts at a multiple of 64 bytes. A
/// pure function of the number of elements and of whether the scales are quantized too.
struct Nf4Layout {
  int64_t num_elements = 0;
  bool is_nested = true;
  int64_t codes_offset = 0;          // two elements per byte, the even one in the high half; an odd last one is padded
  int64_t absmax_offset = 0;         // nested: uint8 [blocks], indices into the map; otherwise float [blocks]
  int64_t nested_absmax_offset = 0;  // nested: float [ceil(blocks / 256)]
  int64_t nested_map_offset = 0;     // nested: float [256]
  int64_t nested_mean_offset = 0;    // nested: float [1], added to every scale ("nested_offset" in files)
  int64_t num_bytes = 0;

  int64_t num_code_bytes() const { return (num_elements + 1) / 2; }
  int64_t num_blocks() const { return (num_elements + kNf4BlockElements - 1) / kNf4BlockElements; }
  int64_t num_nested_blocks() const { return (num_blocks() + kNf4NestedElements - 1) / kNf4NestedElements; }
};
Nf4Layout nf4_layout(int64_t num_elements, bool is_nested);

/// A view of a quantized matrix. Does not own its bytes.
struct Nf4View {
  Nf4Layout layout;
  const std::byte* data = nullptr;  // layout.num_bytes of them
  /// Values are rounded to this dtype after code * scale: that of the matrix before quantization (F32, BF16 or F16).
  Dtype original_dtype = Dtype::kF32;
};

/// Fills `bytes` (layout.num_bytes) from `values` (layout.num_elements, finite). Always rounds to the nearest value.
void nf4_quantize(std::span<const float> values, const Nf4Layout& layout, std::span<std::byte> bytes);

/// Computes elements [begin, begin + out.size()) as code * scale in float32, rounded once to the original dtype and
/// then, for bfloat16 output, to bfloat16. `begin` need not be aligned. The bits are the same on every instruction set
/// and for every split into ranges.
void nf4_dequantize(const Nf4View& matrix, int64_t begin, std::span<float> out);
void nf4_dequantize_bf16(const Nf4View& matrix, int64_t begin, std::span<uint16_t> out);

}  // namespace plumb
