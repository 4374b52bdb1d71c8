#include "lib/model/mxfp4.hpp"

#include <array>
#include <cmath>
#include <limits>

#include "lib/base/check.hpp"
#include "lib/base/dtype.hpp"

namespace plumb {

namespace {

constexpr float kMxfp4Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
constexpr int kNanScale = 255, kScaleBias = 127;

void convert(float value, float& out) { out = value; }
void convert(float value, uint16_t& out) { out = float_to_bf16(value); }

template <class T>
void dequantize(std::span<const std::byte> codes, std::span<const std::byte> scales, std::span<T> out) {
  const int64_t num_blocks = std::ssize(scales);
  check(std::ssize(codes) == num_blocks * kMxfp4BlockBytes && std::ssize(out) == num_blocks * kMxfp4BlockElements,
        "a block of MXFP4 has 16 bytes and 32 elements");
  const std::byte* code = codes.data();
  T* to = out.data();
  for (const std::byte scale_byte : scales) {
    const int scale = std::to_integer<int>(scale_byte);
    std::array<T, 16> table;
    for (size_t i = 0; i < table.size(); ++i)
      convert(scale == kNanScale ? std::numeric_limits<float>::quiet_NaN()
                                 : std::ldexp(kMxfp4Values[i], scale - kScaleBias),
              table[i]);
    for (int64_t i = 0; i < kMxfp4BlockBytes; ++i, ++code) {
      *to++ = table[std::to_integer<size_t>(*code & std::byte{0xf})];
      *to++ = table[std::to_integer<size_t>(*code >> 4)];
    }
  }
}

}  // namespace

void mxfp4_dequantize(std::span<const std::byte> codes, std::span<const std::byte> scales, std::span<float> out) {
  dequantize(codes, scales, out);
}

void mxfp4_dequantize_bf16(std::span<const std::byte> codes, std::span<const std::byte> scales,
                           std::span<uint16_t> out) {
  dequantize(codes, scales, out);
}

}  // namespace plumb
