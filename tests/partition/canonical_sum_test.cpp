#include "partition/canonical_sum.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "lib/base/random.hpp"

namespace plumb {
namespace {

constexpr int64_t kElements = 5000;  // more than two blocks, and not a multiple of one

std::vector<std::vector<float>> random_leaves(int64_t count) {
  std::vector<std::vector<float>> leaves(count, std::vector<float>(kElements));
  for (size_t m = 0; m < leaves.size(); ++m)
    for (size_t i = 0; i < kElements; ++i) leaves[m][i] = static_cast<float>(random_normal(1, m, i));
  return leaves;
}

/// Pushes the leaves in rounds of `per_round`, each given as the subtrees that nodes of `per_node` ranks would send.
std::vector<float> total(const std::vector<std::vector<float>>& leaves, int64_t per_round, int64_t per_node,
                         Reduction reduction = Reduction::kCanonical) {
  const auto count = static_cast<int64_t>(leaves.size());
  const int64_t rounds = count / per_round;
  std::vector<std::vector<float>> memory(max_open_subtrees(per_round, rounds, reduction),
                                         std::vector<float>(kElements));
  std::vector<float*> levels;
  for (auto& level : memory) levels.push_back(level.data());
  for (int64_t round = 0; round < rounds; ++round) {
    std::vector<std::vector<float>> sums;
    std::vector<Summand> summands;
    sums.reserve(leaves.size());
    for (int64_t first = 0; first < per_round; first += per_node) {
      int64_t leaf = round * per_round + first;
      const int64_t end = leaf + std::min(per_node, per_round - first);
      for (int64_t size : aligned_subtrees(leaf, end)) {
        std::vector<Summand> group;
        for (int64_t i = 0; i < size; ++i) group.push_back({1, leaves[leaf++].data(), false});
        float* const out = sums.emplace_back(kElements).data();
        push_summands({&out, 1}, 0, group, kElements, true, reduction);
        summands.push_back({size, out, false});
      }
    }
    push_summands(levels, round * per_round, summands, kElements, round + 1 == rounds, reduction);
  }
  return memory[0];
}

TEST(CanonicalSum, DoesNotDependOnRanksNodesOrAccumulation) {
  const auto leaves = random_leaves(24);
  const std::vector<float> expected = total(leaves, 24, 24);
  for (int64_t per_round : {1, 2, 3, 4, 6, 8, 12, 24})
    for (int64_t per_node : {1, 2, 3, 4, 5, 8, 24}) EXPECT_EQ(total(leaves, per_round, per_node), expected);
}

TEST(CanonicalSum, IsTheBalancedTreeWrittenOut) {
  const auto leaves = random_leaves(6);
  const std::vector<float> sum = total(leaves, 6, 6);
  for (size_t i = 0; i < kElements; ++i) {
    const auto x = [&](size_t m) { return leaves[m][i]; };
    EXPECT_EQ(sum[i], ((x(0) + x(1)) + (x(2) + x(3))) + (x(4) + x(5)));
  }
}

TEST(CanonicalSum, DiffersFromThePlainOrder) {  // else the tests above would hold for any order
  const auto leaves = random_leaves(24);
  EXPECT_NE(total(leaves, 24, 24), total(leaves, 24, 24, Reduction::kFast));
}

TEST(CanonicalSum, FastIsNearAndKeepsOneAccumulator) {
  const auto leaves = random_leaves(24);
  const std::vector<float> exact = total(leaves, 24, 24), fast = total(leaves, 8, 8, Reduction::kFast);
  for (size_t i = 0; i < kElements; ++i) EXPECT_NEAR(fast[i], exact[i], 1e-5);  // 24 roundings of sums of about 5
  EXPECT_EQ(max_open_subtrees(8, 3, Reduction::kFast), 1);
}

TEST(CanonicalSum, SubtreesAreAlignedAndCoverTheirRange) {
  for (int64_t begin = 0; begin < 40; ++begin) {
    for (int64_t end = begin + 1; end < 70; ++end) {
      int64_t at = begin;
      for (int64_t size : aligned_subtrees(begin, end)) {
        EXPECT_EQ(at % size, 0);
        EXPECT_EQ(size & (size - 1), 0);
        at += size;
      }
      EXPECT_EQ(at, end);
    }
  }
  EXPECT_EQ(max_open_subtrees(8, 1, Reduction::kCanonical), 1);
  EXPECT_EQ(max_open_subtrees(8, 4, Reduction::kCanonical), 2);   // after 24 leaves: 16 and 8
  EXPECT_EQ(max_open_subtrees(1, 24, Reduction::kCanonical), 4);  // after 15 or 23 leaves
}

}  // namespace
}  // namespace plumb
