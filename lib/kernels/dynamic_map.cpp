// Compiled without fused multiply-add, since the tables must match those of bitsandbytes bit by bit.
#include "lib/kernels/dynamic_map.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace {

constexpr int kDecades = 7;

/// Equals torch.linspace(0.1, 1, count): computed from both ends to the middle with fused multiply-add.
std::vector<float> boundaries_of_decade(int count) {
  const float step = (1.0f - 0.1f) / static_cast<float>(count - 1);
  std::vector<float> boundaries(count);
  for (int i = 0; i < count; ++i)
    boundaries[i] = i < count / 2 ? std::fma(step, static_cast<float>(i), 0.1f)
                                  : std::fma(-step, static_cast<float>(count - 1 - i), 1.0f);
  return boundaries;
}

/// The smallest code whose threshold is not below x.
uint8_t code_of(const std::array<float, 256>& thresholds, float x) {
  return static_cast<uint8_t>(std::lower_bound(thresholds.begin(), thresholds.end() - 1, x) - thresholds.begin());
}

DynamicMap make_map(bool is_signed) {
  std::vector<float> values = {0, 1};
  for (int decade = 0; decade < kDecades; ++decade) {
    const auto unit = static_cast<float>(std::pow(10.0, decade - (kDecades - 1)));
    const std::vector<float> boundaries = boundaries_of_decade((is_signed ? 1 << decade : 2 << decade) + 1);
    for (size_t i = 0; i + 1 < boundaries.size(); ++i) {
      const float value = unit * ((boundaries[i] + boundaries[i + 1]) / 2.0f);
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  DynamicMap map;
  std::copy(values.begin(), values.end(), map.values.begin());
  for (size_t i = 0; i + 1 < values.size(); ++i) map.thresholds[i] = (values[i] + values[i + 1]) / 2.0f;
  map.thresholds.back() = std::numeric_limits<float>::infinity();
  map.first_codes.resize(1 << 16);
  for (uint32_t upper = 0; upper < map.first_codes.size(); ++upper) {
    const bool is_negative = upper >> 15 != 0;
    const auto least = std::bit_cast<float>(upper << 16 | (is_negative ? 0xffffu : 0u));
    map.first_codes[upper] = std::isnan(least) ? 0 : code_of(map.thresholds, least);
  }
  return map;
}

}  // namespace

const DynamicMap& dynamic_map(bool is_signed) {
  static const DynamicMap with_sign = make_map(true), without_sign = make_map(false);
  return is_signed ? with_sign : without_sign;
}

float quantize_block(const DynamicMap& map, std::span<const float> values, uint8_t* codes) {
  const float scale = float_kernels().largest_magnitude(values.data(), std::ssize(values));
  const float reciprocal = 1.0f / std::max(scale, 1e-38f);  // keeps the reciprocal finite for tiny blocks
  for (const float value : values) *codes++ = map.nearest(value * reciprocal);
  return scale;
}

void dequantize_block(const DynamicMap& map, const uint8_t* codes, float scale, std::span<float> values) {
  for (float& value : values) value = map.values[*codes++] * scale;
}

}  // namespace plumb
