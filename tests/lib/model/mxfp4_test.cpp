#include "lib/model/mxfp4.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

#include "lib/base/dtype.hpp"

namespace plumb {
namespace {

constexpr float kMagnitudes[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};  // E2M1

/// All 256 bytes of codes under one scale, in two rounds of every value.
std::vector<float> all_codes(int scale) {
  std::vector<std::byte> codes(256), scales(16, static_cast<std::byte>(scale));
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i);
  std::vector<float> out(512);
  mxfp4_dequantize(codes, scales, out);
  for (const float value : out)
    EXPECT_TRUE(bf16_to_float(float_to_bf16(value)) == value || std::isnan(value)) << "exact in bfloat16: " << scale;
  return out;
}

TEST(Mxfp4, IsCodeTimesPowerOfTwoLowHalfFirst) {
  for (const int scale : {0, 1, 100, 127, 130, 252}) {
    const std::vector<float> values = all_codes(scale);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t code = i % 2 == 0 ? i / 2 % 16 : i / 2 / 16;
      const float magnitude = std::ldexp(kMagnitudes[code % 8], scale - 127);
      ASSERT_EQ(values[i], code < 8 ? magnitude : -magnitude) << scale << ": element " << i;
      ASSERT_EQ(std::signbit(values[i]), code >= 8);
    }
  }
}

TEST(Mxfp4, WhatFloatHasNotIsNotFinite) {
  for (const float value : all_codes(255)) EXPECT_TRUE(std::isnan(value));
  for (const float value : all_codes(254)) EXPECT_TRUE(std::isinf(value) || std::abs(value) <= 0x1.8p+127f);
}

TEST(Mxfp4, EachBlockHasItsOwnScale) {
  const std::vector<std::byte> codes(48, std::byte{0x2a}), scales = {std::byte{126}, std::byte{127}, std::byte{129}};
  std::vector<float> out(96);
  mxfp4_dequantize(codes, scales, out);
  for (size_t i = 0; i < out.size(); ++i) {
    const float scale = i < 32 ? 0.5f : i < 64 ? 1.0f : 4.0f;
    EXPECT_EQ(out[i], (i % 2 == 0 ? -1.0f : 1.0f) * scale);
  }
}

TEST(Mxfp4, RefusesSizesThatDoNotFit) {
  std::vector<std::byte> codes(32), scales(2);
  std::vector<float> out(63);
  EXPECT_THROW(mxfp4_dequantize(codes, scales, out), std::logic_error);
}

}  // namespace
}  // namespace plumb
