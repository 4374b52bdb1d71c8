#include "lib/base/exact_sum.hpp"

#include <bit>
#include <cmath>
#include <limits>

namespace plumb {

__extension__ using Wide = unsigned __int128;

void ExactSum::add(double value) {
  const auto bits = std::bit_cast<uint64_t>(value);
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
  if (exponent == 0x7ff) {
    ++bins_[kNonFinite];
    return;
  }
  const uint64_t fraction = bits & ((uint64_t{1} << 52) - 1);
  const uint64_t mantissa = exponent == 0 ? fraction : fraction | uint64_t{1} << 52;
  const int position = exponent == 0 ? 0 : exponent - 1;  // the mantissa's lowest bit weighs 2^(position - 1074)
  const auto shifted = static_cast<Wide>(mantissa) << (position & 31);
  const int64_t sign = bits >> 63 ? -1 : 1;
  const size_t bin = static_cast<size_t>(position) >> 5;
  bins_[bin] += sign * static_cast<int64_t>(static_cast<uint32_t>(shifted));
  bins_[bin + 1] += sign * static_cast<int64_t>(static_cast<uint32_t>(shifted >> 32));
  bins_[bin + 2] += sign * static_cast<int64_t>(static_cast<uint32_t>(shifted >> 64));
  if (++num_since_carry_ == int64_t{1} << 29) carry();
}

void ExactSum::add(const ExactSum& other) {
  ExactSum carried = other;
  carried.carry();
  carry();
  for (int i = 0; i < kNumBins; ++i) bins_[i] += carried.bins_[i];
}

void ExactSum::carry() {
  for (int i = 0; i + 2 < kNumBins; ++i) {
    const int64_t up = bins_[i] >> 32;  // floor, so the digit left is in [0, 2^32)
    bins_[i] -= up << 32;
    bins_[i + 1] += up;
  }
  num_since_carry_ = 0;
}

double ExactSum::value() const {
  if (bins_[kNonFinite] != 0) return std::numeric_limits<double>::quiet_NaN();
  ExactSum canonical = *this;
  canonical.carry();
  const bool is_negative = canonical.bins_[kNonFinite - 1] < 0;
  if (is_negative) {
    for (int64_t& bin : canonical.bins_) bin = -bin;
    canonical.carry();
  }
  double sum = 0;
  for (int i = kNonFinite - 1; i >= 0; --i) sum += std::ldexp(static_cast<double>(canonical.bins_[i]), 32 * i - 1074);
  return is_negative ? -sum : sum;
}

}  // namespace plumb
