// Compiled without fused multiply-add, so that the scales have the same bits on every processor.
#include "lib/model/nf4.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "lib/base/check.hpp"
#include "lib/kernels/dynamic_map.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace {

static_assert(kNf4NestedElements == kDynamicBlockElements);

template <class T>
T read(const std::byte* from, int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}

/// Reads the scales of blocks [first, first + out.size()).
void read_scales(const Nf4View& matrix, int64_t first, std::span<float> out) {
  const Nf4Layout& layout = matrix.layout;
  const std::byte* absmax = matrix.data + layout.absmax_offset;
  if (!layout.is_nested) {
    std::memcpy(out.data(), absmax + first * static_cast<int64_t>(sizeof(float)), out.size_bytes());
    return;
  }
  const std::byte* map = matrix.data + layout.nested_map_offset;
  const auto mean = read<float>(matrix.data + layout.nested_mean_offset, 0);
  for (size_t i = 0; i < out.size();) {
    const int64_t block = first + static_cast<int64_t>(i);
    const auto scale = read<float>(matrix.data + layout.nested_absmax_offset, block / kNf4NestedElements);
    const int64_t left = kNf4NestedElements - block % kNf4NestedElements;
    const size_t end = std::min(out.size(), i + static_cast<size_t>(left));
    for (const std::byte* code = absmax + block; i < end; ++i)
      out[i] = read<float>(map, std::to_integer<int64_t>(*code++)) * scale + mean;
  }
}

/// Runs the kernel on pieces whose scales fit a small buffer.
template <class T, class Kernel>
void dequantize(const Nf4View& matrix, int64_t begin, std::span<T> out, Kernel kernel) {
  constexpr int64_t kPieceBlocks = 512;
  const int64_t end = begin + std::ssize(out);
  check(begin >= 0 && end <= matrix.layout.num_elements, "elements of a quantized matrix lie within it");
  const auto* codes = reinterpret_cast<const uint8_t*>(matrix.data + matrix.layout.codes_offset);
  float scales[kPieceBlocks];
  for (int64_t i = begin; i < end;) {
    const int64_t block = i / kNf4BlockElements;
    const int64_t piece_end = std::min(end, (block + kPieceBlocks) * kNf4BlockElements);
    const int64_t num_blocks = (piece_end - 1) / kNf4BlockElements - block + 1;
    read_scales(matrix, block, std::span(scales, num_blocks));
    kernel(codes, scales, i, piece_end - i, matrix.original_dtype, out.data() + (i - begin));
    i = piece_end;
  }
}

/// Writes `scales`, after subtracting their mean, in 8 bits.
void quantize_scales(std::span<const float> scales, const Nf4Layout& layout, std::span<std::byte> bytes) {
  double sum = 0;
  for (const float scale : scales) sum += static_cast<double>(scale);
  const auto mean = static_cast<float>(sum / static_cast<double>(std::max<size_t>(1, scales.size())));
  const DynamicMap& map = dynamic_map(true);
  auto* codes = reinterpret_cast<uint8_t*>(bytes.data() + layout.absmax_offset);
  for (int64_t nested = 0; nested < layout.num_nested_blocks(); ++nested) {
    const int64_t first = nested * kNf4NestedElements;
    const int64_t count = std::min(kNf4NestedElements, layout.num_blocks() - first);
    float centered[kNf4NestedElements];
    for (int64_t i = 0; i < count; ++i) centered[i] = scales[first + i] - mean;
    const float absmax = quantize_block(map, std::span(centered, count), codes + first);
    std::memcpy(bytes.data() + layout.nested_absmax_offset + nested * 4, &absmax, sizeof absmax);
  }
  std::memcpy(bytes.data() + layout.nested_map_offset, map.values.data(), sizeof map.values);
  std::memcpy(bytes.data() + layout.nested_mean_offset, &mean, sizeof mean);
}

}  // namespace

Nf4Layout nf4_layout(int64_t num_elements, bool is_nested) {
  constexpr int64_t kAlignmentBytes = 64;
  Nf4Layout layout{.num_elements = num_elements, .is_nested = is_nested};
  const auto place = [&](int64_t& offset, int64_t num_bytes) {
    offset = layout.num_bytes;
    layout.num_bytes += (num_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  };
  place(layout.codes_offset, layout.num_code_bytes());
  place(layout.absmax_offset, layout.num_blocks() * (is_nested ? 1 : 4));
  if (!is_nested) return layout;
  place(layout.nested_absmax_offset, layout.num_nested_blocks() * 4);
  place(layout.nested_map_offset, 256 * 4);
  place(layout.nested_mean_offset, 4);
  return layout;
}

void nf4_quantize(std::span<const float> values, const Nf4Layout& layout, std::span<std::byte> bytes) {
  check(std::ssize(values) == layout.num_elements && std::ssize(bytes) == layout.num_bytes,
        "a matrix is quantized into as many bytes as its layout has");
  std::fill(bytes.begin(), bytes.end(), std::byte{0});  // alignment gaps are part of the result
  std::vector<float> scales;
  scales.reserve(layout.num_blocks());
  auto* codes = reinterpret_cast<uint8_t*>(bytes.data() + layout.codes_offset);
  for (int64_t begin = 0; begin < layout.num_elements; begin += kNf4BlockElements) {
    const int64_t count = std::min(kNf4BlockElements, layout.num_elements - begin);
    const float* block = values.data() + begin;
    const float scale = float_kernels().largest_magnitude(block, count);
    // the reciprocal of a tiny scale would be infinite, and a block of zeros would not stay zero
    nf4_kernels().encode(block, count, 1.0f / std::max(scale, 1e-38f), codes + begin / 2);
    scales.push_back(scale);
  }
  if (layout.is_nested)
    quantize_scales(scales, layout, bytes);
  else if (!scales.empty())
    std::memcpy(bytes.data() + layout.absmax_offset, scales.data(), scales.size() * sizeof(float));
}

void nf4_dequantize(const Nf4View& matrix, int64_t begin, std::span<float> out) {
  dequantize(matrix, begin, out, nf4_kernels().to_float);
}

void nf4_dequantize_bf16(const Nf4View& matrix, int64_t begin, std::span<uint16_t> out) {
  dequantize(matrix, begin, std::span(reinterpret_cast<BFloat16*>(out.data()), out.size()), nf4_kernels().to_bfloat16);
}

}  // namespace plumb
