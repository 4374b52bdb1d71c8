// Numbers in 8 bits: blocks of 256 share their largest magnitude in float32, and each value is the nearest of 256
// values in [-1, 1] (or [0, 1]) times that. The values lie on a logarithmic scale of seven decades, each of them
// divided linearly, and finer the larger. Source: Dettmers, arXiv:1511.04561; Dettmers et al., arXiv:2110.02861;
// bitsandbytes, functional.py create_dynamic_map, whose tables these are to the bit.
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
  std::array<float, 256> thresholds;  // between a value and the next; the last is infinite
  std::vector<uint8_t> first_codes;   // [65536]: the least code of floats that begin with these 16 bits

  /// The code of the value nearest to x, the lower one of two. Of a NaN: any code.
  uint8_t nearest(float x) const {
    // floats that share 16 bits are never further apart than two thresholds
    const uint8_t code = first_codes[std::bit_cast<uint32_t>(x) >> 16];
    return static_cast<uint8_t>(code + (x > thresholds[code]));
  }
};

/// Of [-1, 1], or of [0, 1]: 0 and 1 are values of both; -1 of neither.
const DynamicMap& dynamic_map(bool is_signed);

/// Codes of one block, of 256 values or fewer: nearest(value / scale). Returns the scale, their largest magnitude.
float quantize_block(const DynamicMap& map, std::span<const float> values, uint8_t* codes);

void dequantize_block(const DynamicMap& map, const uint8_t* codes, float scale, std::span<float> values);

}  // namespace plumb
