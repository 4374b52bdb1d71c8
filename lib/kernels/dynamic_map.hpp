// 8-bit block quantization: blocks of 256 values share their largest magnitude as a float32 scale, and each value is
// rounded to the nearest of 256 levels in [-1, 1] (or [0, 1]) times the scale. The levels are on a logarithmic scale of
// seven decades, each divided linearly, with more levels in larger decades.
// Source: Dettmers, arXiv:1511.04561; Dettmers et al., arXiv:2110.02861; bitsandbytes, functional.py
// create_dynamic_map, whose tables are reproduced bit by bit.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace plumb {

inline constexpr int64_t kDynamicBlockElements = 256;

struct DynamicMap {
  std::array<float, 256> values;      // ascending
  std::array<float, 256> thresholds;  // midpoint between a value and the next; the last is infinite
  std::vector<uint8_t> first_codes;   // [65536]: by the upper 16 bits of a float, the smallest code

  /// Code of the value nearest to x; ties go to the lower code. The code of a NaN is unspecified.
  uint8_t nearest(float x) const {
    // floats with the same upper 16 bits span at most one threshold
    const uint8_t code = first_codes[std::bit_cast<uint32_t>(x) >> 16];
    return static_cast<uint8_t>(code + (x > thresholds[code]));
  }
};

/// The map for [-1, 1] if is_signed, else for [0, 1]. Both have the values 0 and 1; neither has -1.
const DynamicMap& dynamic_map(bool is_signed);

/// Quantizes one block of at most 256 values: codes[i] = nearest(values[i] / scale). Returns the scale, which is the
/// largest magnitude.
float quantize_block(const DynamicMap& map, std::span<const float> values, uint8_t* codes);

/// Inverse of quantize_block(), up to rounding.
void dequantize_block(const DynamicMap& map, const uint8_t* codes, float scale, std::span<float> values);

}  // namespace plumb
