// A sum of doubles that does not depend on the order of its terms, so that a loss or norm has the same bits on any
// number of ranks. A double is an integer times a power of two; its digits are added into integer bins of 32 bits of
// weight each. Source: the long accumulator of Kulisch; Collange et al., "Numerical reproducibility for the parallel
// reduction".
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace plumb {

class ExactSum {
 public:
  void add(double value);
  void add(const ExactSum& other);

  /// The sum, rounded; NaN if a term was not finite.
  double value() const;

  /// The state as integers: adding two states element by element adds the sums, so one integer all-reduce over ranks is
  /// exact. Call carry() first; afterward up to 2^30 states may be added.
  std::span<int64_t> bins() { return bins_; }
  void carry();

  static constexpr int kNumBins = 69;

 private:
  static constexpr int kNonFinite = kNumBins - 1;  // counts infinities and NaNs
  std::array<int64_t, kNumBins> bins_{};           // bin i weighs 2^(32 i - 1074)
  int64_t num_since_carry_ = 0;
};

}  // namespace plumb
