#include "lib/model/mxfp4.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr float kMxfp4Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
constexpr int kNanScale = 255, kScaleBias = 127;

}  // namespace

void mxfp4_dequantize(std::span<const std::byte> codes, std::span<const std::byte> scales, std::span<float> out) {
  const int64_t num_blocks = std::ssize(scales);
  check(std::ssize(codes) == num_blocks * kMxfp4BlockBytes && std::ssize(out) == num_blocks * kMxfp4BlockElements,
        "a block of MXFP4 has 16 bytes and 32 elements");
  const std::byte* code = codes.data();
  float* to = out.data();
  for (const std::byte scale_byte : scales) {
    const int scale = std::to_integer<int>(scale_byte);
    std::array<float, 16> table;
    for (size_t i = 0; i < table.size(); ++i)
      table[i] = scale == kNanScale ? std::numeric_limits<float>::quiet_NaN()
                                    : std::ldexp(kMxfp4Values[i], scale - kScaleBias);
    for (int64_t i = 0; i < kMxfp4BlockBytes; ++i, ++code) {
      *to++ = table[std::to_integer<size_t>(*code & std::byte{0xf})];
      *to++ = table[std::to_integer<size_t>(*code >> 4)];
    }
  }
}

}  // namespace plumb
