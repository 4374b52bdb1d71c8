// NF4: a matrix in 4 bits an element, blocks of 64 elements of the flattened matrix scaled by their largest magnitude,
// and those scales in 8 bits again (double quantization, blocks of 256). The bytes are those of bitsandbytes.
// Source: QLoRA, arXiv:2305.14314; format: bitsandbytes, functional.py and csrc/kernels.cu.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/dtype.hpp"

namespace plumb {

inline constexpr int64_t kNf4BlockElements = 64;
inline constexpr int64_t kNf4NestedElements = 256;  // scales that share a scale

/// Where the parts of one quantized matrix lie in a run of bytes; each part at a multiple of 64 bytes. A pure function
/// of the number of elements and of whether scales are quantized again.
struct Nf4Layout {
  int64_t num_elements = 0;
  bool is_nested = true;
  int64_t codes_offset = 0;          // two elements a byte, the even one in the high half; a last odd one is padded
  int64_t absmax_offset = 0;         // nested: uint8 [blocks], an index into the map; otherwise float [blocks]
  int64_t nested_absmax_offset = 0;  // nested: float [ceil(blocks / 256)]
  int64_t nested_map_offset = 0;     // nested: float [256]
  int64_t nested_mean_offset = 0;    // nested: float [1], added to every scale ("nested_offset" of the file)
  int64_t num_bytes = 0;

  int64_t num_code_bytes() const { return (num_elements + 1) / 2; }
  int64_t num_blocks() const { return (num_elements + kNf4BlockElements - 1) / kNf4BlockElements; }
  int64_t num_nested_blocks() const { return (num_blocks() + kNf4NestedElements - 1) / kNf4NestedElements; }
};
Nf4Layout nf4_layout(int64_t num_elements, bool is_nested);

/// A quantized matrix. Does not own its bytes.
struct Nf4View {
  Nf4Layout layout;
  const std::byte* data = nullptr;  // of layout.num_bytes
  /// What values are rounded to after code * scale: the dtype of the matrix that was quantized (F32, BF16 or F16).
  Dtype original_dtype = Dtype::kF32;
};

/// Fills `bytes` (layout.num_bytes of them) from `values` (layout.num_elements, finite). Nearest neighbors throughout.
void nf4_quantize(std::span<const float> values, const Nf4Layout& layout, std::span<std::byte> bytes);

/// Elements [begin, begin + out.size()) as code * scale in float32, rounded once to the original dtype and then, for
/// bfloat16 output, to bfloat16. begin may be anything. The same bits on every instruction set, however it is cut up.
void nf4_dequantize(const Nf4View& matrix, int64_t begin, std::span<float> out);
void nf4_dequantize_bf16(const Nf4View& matrix, int64_t begin, std::span<uint16_t> out);

}  // namespace plumb
