#include "lib/base/exact_sum.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace plumb {
namespace {

ExactSum sum_of(std::span<const double> values) {
  ExactSum sum;
  for (double value : values) sum.add(value);
  return sum;
}
double value_of(std::vector<double> values) { return sum_of(values).value(); }

uint64_t bits_of(double value) { return std::bit_cast<uint64_t>(value); }

/// Values of both signs whose exponents spread over `exponents` powers of two around 1.
std::vector<double> wild_values(size_t count, int exponents, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> fraction(-1.0, 1.0);
  std::uniform_int_distribution<int> exponent(-exponents / 2, exponents / 2);
  std::vector<double> values;
  for (size_t i = 0; i < count; ++i) values.push_back(std::ldexp(fraction(random), exponent(random)));
  return values;
}

TEST(ExactSum, OfNothingIsZero) { EXPECT_EQ(bits_of(ExactSum().value()), bits_of(0.0)); }

TEST(ExactSum, OfOneTermIsThatTermToTheBit) {
  for (double value : wild_values(5000, 2000, 1)) EXPECT_EQ(bits_of(value_of({value})), bits_of(value));
  for (double value : {std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest(),
                       std::numeric_limits<double>::min(), std::numeric_limits<double>::denorm_min()})
    EXPECT_EQ(bits_of(value_of({value})), bits_of(value));
}

TEST(ExactSum, DoesNotDependOnTheOrderOfItsTerms) {
  std::vector<double> values = wild_values(3000, 200, 2);
  const double expected = value_of(values);
  std::mt19937 random(3);
  double different_naive_sums = 0;
  double first_naive = 0;
  for (double value : values) first_naive += value;
  for (int shuffle = 0; shuffle < 20; ++shuffle) {
    std::shuffle(values.begin(), values.end(), random);
    EXPECT_EQ(bits_of(value_of(values)), bits_of(expected));
    double naive = 0;
    for (double value : values) naive += value;
    different_naive_sums += naive != first_naive ? 1 : 0;
  }
  EXPECT_GT(different_naive_sums, 0) << "the terms are too tame to show anything";
}

TEST(ExactSum, KeepsWhatCancellationWouldLose) {
  EXPECT_EQ(value_of({1e300, 1.0, -1e300}), 1.0);
  EXPECT_EQ(value_of({-1e300, -1.0, 1e300}), -1.0);
  EXPECT_EQ(value_of({1e16, 1.0, 1.0, -1e16}), 2.0);
  EXPECT_EQ(value_of({1.0, 0x1p-1074, -1.0}), 0x1p-1074);
  EXPECT_EQ(bits_of(value_of({0.1, -0.1})), bits_of(0.0));
  constexpr double kMax = std::numeric_limits<double>::max();
  EXPECT_EQ(value_of({kMax, kMax, -kMax}), kMax) << "a sum may pass the range of a double on its way";
  EXPECT_EQ(value_of({kMax, kMax}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(value_of({-kMax, -kMax}), -std::numeric_limits<double>::infinity());
}

TEST(ExactSum, OfNegatedTermsIsTheNegatedSum) {
  std::vector<double> values = wild_values(2000, 300, 4);
  const double sum = value_of(values);
  for (double& value : values) value = -value;
  EXPECT_EQ(bits_of(value_of(values)), bits_of(-sum));
}

TEST(ExactSum, AddsSubnormalsExactly) {
  constexpr double kLeast = std::numeric_limits<double>::denorm_min();
  ExactSum sum;
  for (int i = 0; i < 12345; ++i) sum.add(kLeast);
  EXPECT_EQ(sum.value(), 12345 * kLeast);
  sum.add(-12346 * kLeast);
  EXPECT_EQ(sum.value(), -kLeast);
  sum.add(std::numeric_limits<double>::min());
  EXPECT_EQ(sum.value(), std::numeric_limits<double>::min() - kLeast);
}

TEST(ExactSum, RoundsAsTheFormatDoes) {
  EXPECT_EQ(value_of({1.0, 0x1p-53}), 1.0);
  EXPECT_EQ(value_of({1.0, 0x1p-53, 0x1p-80}), 1.0 + 0x1p-52);
  EXPECT_EQ(value_of({1.0 + 0x1p-52, 0x1p-53}), 1.0 + 0x1p-51) << "half to even";
}

TEST(ExactSum, AgreesWithLongDouble) {
  for (uint32_t seed = 10; seed < 30; ++seed) {
    long double expected = 0, magnitude = 0;
    const std::vector<double> values = wild_values(5000, 20, seed);
    for (double value : values) expected += value, magnitude += std::abs(value);
    // long double rounds each of the 5000 additions to 64 bits, value() the result to 53
    const auto tolerance = static_cast<double>(magnitude * 5000 * 0x1p-64L + std::abs(expected) * 0x1p-53L);
    EXPECT_NEAR(value_of(values), static_cast<double>(expected), tolerance);
  }
}

TEST(ExactSum, OfStatesIsTheSumOfTheirTerms) {
  const std::vector<double> values = wild_values(3000, 400, 5);
  const double expected = value_of(values);
  std::mt19937 random(6);
  for (int trial = 0; trial < 10; ++trial) {
    std::vector<ExactSum> states(7);
    for (double value : values) states[random() % states.size()].add(value);
    ExactSum merged, by_bins;
    for (ExactSum& state : states) {
      merged.add(state);
      state.carry();
      for (size_t i = 0; i < ExactSum::kNumBins; ++i) by_bins.bins()[i] += state.bins()[i];
    }
    EXPECT_EQ(bits_of(merged.value()), bits_of(expected));
    EXPECT_EQ(bits_of(by_bins.value()), bits_of(expected));
  }
}

TEST(ExactSum, CarriedStatesOfOneSumAreEqualHoweverOftenTheyCarried) {
  const std::vector<double> values = wild_values(1000, 100, 7);
  for (const double sign : {1.0, -1.0}) {
    ExactSum at_once, often, by_parts;
    for (double value : values) {
      at_once.add(sign * value);
      often.add(sign * value);
      often.carry();
      ExactSum part;
      part.add(sign * value);
      by_parts.add(part);
    }
    at_once.carry();
    by_parts.carry();
    EXPECT_TRUE(std::ranges::equal(often.bins(), at_once.bins()));
    EXPECT_TRUE(std::ranges::equal(by_parts.bins(), at_once.bins()));
  }
}

// All 53 bits are set, so every digit is as large as it can be wherever the exponent puts it.
constexpr double kFullMantissa = 0x1.fffffffffffffp0;

TEST(ExactSum, StandsTheManyStatesItPromises) {
  for (int exponent = -64; exponent < 64; ++exponent) {
    for (double sign : {1.0, -1.0}) {
      const double value = sign * std::ldexp(kFullMantissa, exponent);
      ExactSum state;
      for (int i = 0; i < 1000; ++i) state.add(value);
      state.carry();
      ExactSum total;
      // what an all-reduce over 2^30 ranks would leave
      for (size_t i = 0; i < ExactSum::kNumBins; ++i) total.bins()[i] = state.bins()[i] * (int64_t{1} << 30);
      EXPECT_EQ(total.value(), std::ldexp(1000 * value, 30)) << exponent;
    }
  }
}

TEST(ExactSum, MayBeDoubledForever) {
  for (double sign : {1.0, -1.0}) {
    ExactSum sum;
    sum.add(sign * kFullMantissa);
    for (int i = 0; i < 900; ++i) sum.add(sum);
    EXPECT_EQ(sum.value(), sign * std::ldexp(kFullMantissa, 900));
  }
}

TEST(ExactSum, OfATermThatIsNotFiniteIsNaN) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (double bad : {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(value_of({1.0, bad, 2.0})));
    ExactSum state, sum;
    state.add(bad);
    state.carry();
    sum.add(1.0);
    sum.add(state);
    EXPECT_TRUE(std::isnan(sum.value()));
  }
  EXPECT_TRUE(std::isnan(value_of({kInfinity, -kInfinity}))) << "two wrongs do not cancel";
}

}  // namespace
}  // namespace plumb
