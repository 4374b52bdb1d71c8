#include "lib/base/exact_sum.hpp"

#include <cmath>
#include <limits>

#include "lib/base/exact_digits.hpp"

namespace plumb {

void ExactSum::add(double value) {
  static_assert(kNumBins == kExactBins && kNonFinite == kNonFiniteBin);
  const ExactDigits digits = exact_digits(value);
  for (int k = 0; k < ExactDigits::kCount; ++k) bins_[digits.bin + k] += digits.digit[k];
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
