#include "lib/kernels/dynamic_map.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "io/file/sha256.hpp"
#include "lib/base/random.hpp"

namespace plumb {
namespace {

/// The definition of DynamicMap::nearest(): the number of thresholds below x.
int count_thresholds(const DynamicMap& map, float x) {
  return static_cast<int>(
      std::count_if(map.thresholds.begin(), map.thresholds.end(), [x](float threshold) { return x > threshold; }));
}

std::string sha256_of(std::span<const float> values) {
  Sha256 sum;
  sum.update(std::as_bytes(values));
  return sum.hex_digest();
}

TEST(DynamicMap, IsThatOfBitsandbytesToTheBit) {  // torch 2.x, create_dynamic_map(signed), float32
  EXPECT_EQ(sha256_of(dynamic_map(true).values), "e732639a65f497b4ad684bb166a4467708255edd5207757de8b8f0c7e1fda89c");
  EXPECT_EQ(sha256_of(dynamic_map(false).values), "305f002cc11278fb769d13b25b9fd0c7c83c8402c40a878fe086f4039fde6398");
}

TEST(DynamicMap, HasZeroAndOne) {
  EXPECT_EQ(dynamic_map(true).values[127], 0.0f);
  EXPECT_EQ(dynamic_map(true).values[255], 1.0f);
  EXPECT_EQ(dynamic_map(false).values[0], 0.0f);
  EXPECT_EQ(dynamic_map(false).values[255], 1.0f);
}

TEST(DynamicMap, NearestIsTheNumberOfThresholdsBelow) {
  for (const bool is_signed : {true, false}) {
    const DynamicMap& map = dynamic_map(is_signed);
    const auto expect_counted = [&](float x) { ASSERT_EQ(map.nearest(x), count_thresholds(map, x)) << x; };
    for (size_t i = 0; i < 256; ++i)
      for (const float x : {map.values[i], map.thresholds[i]}) {
        expect_counted(x);
        expect_counted(std::nextafter(x, 2.0f));
        expect_counted(std::nextafter(x, -2.0f));
      }
    for (uint32_t upper = 0; upper < 1u << 16; ++upper)
      for (const uint32_t lower : {0u, 1u, 0x8000u, 0xfffeu, 0xffffu})
        if (const auto x = std::bit_cast<float>(upper << 16 | lower); !std::isnan(x)) expect_counted(x);
  }
}

TEST(DynamicMap, NearestIsNoFurtherThanAnyOther) {
  const DynamicMap& map = dynamic_map(true);
  for (uint64_t i = 0; i < 2000; ++i) {
    const auto x = static_cast<float>(random_uniform(1, i, 0) * 2 - 1);
    const auto distance = [x](float value) { return std::abs(static_cast<double>(value) - static_cast<double>(x)); };
    double least = 2;
    for (const float value : map.values) least = std::min(least, distance(value));
    EXPECT_LE(distance(map.values[map.nearest(x)]), least + 0x1p-25) << "a threshold is rounded once";
  }
}

TEST(QuantizeBlock, ScalesByTheLargestMagnitude) {
  const float values[] = {0.5f, -2.0f, 0.0f, 2.0f};
  uint8_t codes[4];
  EXPECT_EQ(quantize_block(dynamic_map(true), values, codes), 2.0f);
  EXPECT_EQ(codes[1], 0) << "the map has no -1";
  EXPECT_EQ(codes[2], 127);
  EXPECT_EQ(codes[3], 255);
  EXPECT_NEAR(dynamic_map(true).values[codes[0]] * 2.0f, 0.5f, 0.02f);
}

TEST(QuantizeBlock, OfZerosAndOfTinyValuesIsFinite) {
  for (const float tiny : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-39f}) {
    const float values[] = {tiny, -tiny, 0.0f};
    uint8_t codes[3];
    const float scale = quantize_block(dynamic_map(true), values, codes);
    EXPECT_EQ(scale, tiny);
    EXPECT_EQ(codes[2], 127);
  }
}

}  // namespace
}  // namespace plumb
