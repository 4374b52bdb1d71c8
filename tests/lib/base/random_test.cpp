#include "lib/base/random.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace plumb {
namespace {

using Words = std::array<uint32_t, 4>;

// The first known answers of Random123's tests for philox4x32-10.
TEST(Philox, GivesTheKnownAnswers) {
  EXPECT_EQ(philox({0, 0, 0, 0}, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, 0xffffffffffffffff),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBits, EveryBitOfSeedStreamAndCounterMatters) {
  std::set<uint64_t> seen = {random_bits(0, 0, 0)};
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t one = uint64_t{1} << bit;
    seen.insert({random_bits(one, 0, 0), random_bits(0, one, 0), random_bits(0, 0, one)});
  }
  EXPECT_EQ(seen.size(), 1u + 3 * 64);
}

// Bounds of this file: five standard deviations of the estimate, so a right generator fails once in two million seeds.
TEST(RandomUniform, HasTheMomentsOfTheUniform) {
  constexpr int kCount = 200000;
  double sum = 0, squares = 0, least = 1, most = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = random_uniform(1, 2, i);
    sum += x, squares += x * x;
    least = std::min(least, x), most = std::max(most, x);
  }
  EXPECT_GE(least, 0.0);
  EXPECT_LT(most, 1.0);
  EXPECT_LT(least, 1e-4);  // all of 200000 above it: e^-20
  EXPECT_GT(most, 1 - 1e-4);
  EXPECT_NEAR(sum / kCount, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 5 * std::sqrt((1.0 / 5 - 1.0 / 9) / kCount));
}

TEST(RandomNormal, HasTheMomentsOfTheNormal) {
  constexpr int kCount = 200000;
  double moments[5] = {};
  int beyond_two = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = random_normal(1, 2, i);
    double power = 1;
    for (double& moment : moments) moment += power / kCount, power *= x;
    beyond_two += std::abs(x) > 2 ? 1 : 0;
  }
  // the variance of the k-th power of a normal: E[x^2k] - E[x^k]^2 = 1, 2, 15, 96
  EXPECT_NEAR(moments[1], 0, 5 * std::sqrt(1.0 / kCount));
  EXPECT_NEAR(moments[2], 1, 5 * std::sqrt(2.0 / kCount));
  EXPECT_NEAR(moments[3], 0, 5 * std::sqrt(15.0 / kCount));
  EXPECT_NEAR(moments[4], 3, 5 * std::sqrt(96.0 / kCount));
  const double share = std::erfc(std::sqrt(2.0));
  EXPECT_NEAR(static_cast<double>(beyond_two) / kCount, share, 5 * std::sqrt(share * (1 - share) / kCount));
}

TEST(RandomNormal, NeighborsAreNotCorrelated) {
  constexpr int kCount = 100000;
  double along_counter = 0, along_stream = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    along_counter += random_normal(5, 0, i) * random_normal(5, 0, i + 1);
    along_stream += random_normal(5, i, 7) * random_normal(5, i + 1, 7);
  }
  EXPECT_NEAR(along_counter / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(along_stream / kCount, 0, 5 / std::sqrt(kCount));
}

TEST(RandomPermutation, IsABijectionForEverySize) {
  for (uint64_t size = 1; size <= 2000; ++size) {
    std::vector<bool> is_taken(size, false);
    for (uint64_t index = 0; index < size; ++index) {
      const uint64_t image = random_permutation(size, 3, index, size);
      ASSERT_LT(image, size);
      ASSERT_FALSE(is_taken[image]) << "size " << size << " index " << index;
      is_taken[image] = true;
    }
  }
}

TEST(RandomPermutation, StaysInRangeForSizesOfAnyCorpus) {
  for (const uint64_t size : {uint64_t{1} << 32, (uint64_t{1} << 32) + 1, uint64_t{1} << 40, uint64_t{1000000000000}}) {
    std::set<uint64_t> images;
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t image = random_permutation(1, 2, i * (size / 1000), size);
      EXPECT_LT(image, size);
      images.insert(image);
    }
    EXPECT_EQ(images.size(), 1000u);
    EXPECT_GT(*images.rbegin(), size / 2);
  }
}

TEST(RandomPermutation, PutsEveryIndexEverywhereEquallyOften) {
  constexpr uint64_t kSize = 7;
  constexpr int kTrials = 7000;
  int counts[kSize][kSize] = {};
  for (uint64_t seed = 0; seed < kTrials; ++seed)
    for (uint64_t index = 0; index < kSize; ++index) ++counts[index][random_permutation(seed, 0, index, kSize)];
  const double deviation = std::sqrt(kTrials * (1.0 / kSize) * (1 - 1.0 / kSize));
  for (const auto& row : counts)
    for (int count : row) EXPECT_NEAR(count, kTrials / static_cast<double>(kSize), 5 * deviation);
}

TEST(RandomPermutation, IsAnotherForAnotherSeedOrStream) {
  const auto order = [](uint64_t seed, uint64_t stream) {
    std::vector<uint64_t> images;
    for (uint64_t i = 0; i < 100; ++i) images.push_back(random_permutation(seed, stream, i, 100));
    return images;
  };
  EXPECT_EQ(order(1, 1), order(1, 1));
  EXPECT_NE(order(1, 1), order(2, 1));
  EXPECT_NE(order(1, 1), order(1, 2));
}

}  // namespace
}  // namespace plumb
