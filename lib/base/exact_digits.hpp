// A double as three digits of 32 bits of weight each, which is what an ExactSum adds to its bins. Also compiled for
// GPUs.
#pragma once

#include <bit>
#include <cstdint>

namespace plumb {

inline constexpr int kExactBins = 69;
inline constexpr int kNonFiniteBin = kExactBins - 1;  // counts infinities and NaNs

struct ExactDigits {
  static constexpr int kCount = 3;
  int bin;  // of the first digit: bin i weighs 2^(32 i - 1074)
  int64_t digit[kCount];
};

/// A value that is not finite is 1 in its bin, and zeros before it.
constexpr ExactDigits exact_digits(double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  if (exponent == 0x7ff) return {kNonFiniteBin - 2, {0, 0, 1}};
  const uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  const uint64_t mantissa = exponent == 0 ? fraction : fraction | uint64_t{1} << 52;
  const int position = exponent == 0 ? 0 : exponent - 1;  // the mantissa's lowest bit weighs 2^(position - 1074)
  const int shift = position & 31;
  const uint64_t low = (mantissa & 0xffffffffu) << shift, high = (mantissa >> 32 << shift) + (low >> 32);
  const int64_t sign = bits >> 63 ? -1 : 1;
  return {position >> 5,
          {sign * static_cast<int64_t>(low & 0xffffffffu), sign * static_cast<int64_t>(high & 0xffffffffu),
           sign * static_cast<int64_t>(high >> 32)}};
}

}  // namespace plumb
