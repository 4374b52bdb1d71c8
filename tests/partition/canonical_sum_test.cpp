#include "partition/canonical_sum.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "lib/base/random.hpp"
#include "partition/subtree_sums.hpp"

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

/// total() of matrices with rows of 300, most of which are zero: elements [begin, end), by push_rows(). Nodes send
/// their sums as whole matrices. What is not written is NaN at first.
std::vector<float> total_of_rows(const std::vector<std::vector<float>>& leaves, std::span<const uint8_t> has_row,
                                 int64_t per_round, int64_t per_node, Reduction reduction, int64_t begin, int64_t end) {
  constexpr int64_t kWidth = 300, kRows = kElements / kWidth;  // and padding
  const auto count = static_cast<int64_t>(leaves.size()), rounds = count / per_round;
  std::vector<std::vector<float>> memory(max_open_subtrees(per_round, rounds, reduction),
                                         std::vector<float>(end - begin, NAN));
  std::vector<std::vector<uint8_t>> level_has_row(memory.size(), std::vector<uint8_t>(kRows, 1));
  std::vector<float*> levels;
  for (auto& level : memory) levels.push_back(level.data());
  const auto push = [&](std::span<float* const> to, std::span<std::vector<uint8_t>> flags, int64_t before,
                        std::span<const Summand> summands, bool is_last) {
    push_rows(to, flags, before, summands, {begin, end, kWidth, kRows}, is_last, reduction);
  };
  for (int64_t round = 0; round < rounds; ++round) {
    std::vector<std::vector<float>> sums;
    std::vector<Summand> summands;
    sums.reserve(leaves.size());
    for (int64_t leaf = round * per_round; leaf < (round + 1) * per_round;) {
      const int64_t size = std::min(per_node, (round + 1) * per_round - leaf);
      for (const int64_t subtree : aligned_subtrees(leaf, leaf + size)) {
        std::vector<Summand> group;
        for (int64_t i = 0; i < subtree; ++i, ++leaf)
          group.push_back({1, leaves[leaf].data() + begin, false, has_row.data() + leaf * kRows});
        if (per_node == per_round) {
          summands.insert(summands.end(), group.begin(), group.end());
          continue;
        }
        float* const out = sums.emplace_back(end - begin, NAN).data();
        std::vector<uint8_t> flags(kRows);
        push({&out, 1}, {&flags, 1}, 0, group, true);
        summands.push_back({subtree, out, false});
      }
    }
    push(levels, level_has_row, round * per_round, summands, round + 1 == rounds);
  }
  return memory[0];
}

TEST(CanonicalSum, OfRowsHasTheBitsOfWholeMatrices) {
  constexpr int64_t kLeaves = 12, kWidth = 300, kRows = kElements / kWidth;
  auto leaves = random_leaves(kLeaves);
  std::vector<uint8_t> has_row(kLeaves * kRows);
  std::vector<std::vector<float>> written = leaves;  // rows without a flag are undefined
  for (size_t leaf = 0; leaf < kLeaves; ++leaf)
    for (size_t row = 0; row < kRows; ++row) {
      has_row[leaf * kRows + row] = row != 3 && (row == 5 || random_bits(2, leaf, row) % 4 == 0);
      if (has_row[leaf * kRows + row]) continue;
      for (size_t i = 0; i < kWidth; ++i) leaves[leaf][row * kWidth + i] = 0, written[leaf][row * kWidth + i] = NAN;
    }
  for (auto& leaf : leaves) std::fill(leaf.begin() + kRows * kWidth, leaf.end(), 0.0f);
  for (const Reduction reduction : {Reduction::kCanonical, Reduction::kFast})
    for (const int64_t per_round : {1, 2, 3, 4, 12})
      for (const int64_t per_node : {int64_t{1}, int64_t{3}, per_round}) {
        if (reduction == Reduction::kFast && per_node != per_round) continue;
        const std::vector<float> expected = total(leaves, per_round, 1, reduction);
        for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, kElements}, {1000, 2300}, {4600, kElements}}) {
          const std::vector<float> sum =
              total_of_rows(written, has_row, per_round, std::min(per_node, per_round), reduction, begin, end);
          for (int64_t i = begin; i < end; ++i)
            ASSERT_EQ(sum[i - begin], expected[i]) << i << " of " << begin << " " << per_round << " " << per_node;
        }
      }
}

TEST(CanonicalSum, OfLeavesWrittenIntoTheirLevelsHasTheSameBits) {
  for (int64_t count = 1; count < 12; ++count)
    for (const bool may_add : {false, true}) {
      const auto leaves = random_leaves(count);
      std::vector<std::vector<float>> memory(max_open_subtrees(1, count, Reduction::kCanonical),
                                             std::vector<float>(kElements, NAN));
      std::vector<float*> levels;
      for (auto& level : memory) levels.push_back(level.data());
      int64_t num_written = 0;
      for (int64_t i = 0; i < count; ++i) {
        Summand summand{1, leaves[i].data(), false};
        if (const auto at = leaf_in_level(i, levels.size(), may_add)) {
          for (size_t k = 0; k < kElements; ++k)
            levels[at->level][k] = leaves[i][k] + (at->adds ? levels[at->level][k] : 0);
          summand = at->summand(levels);
          ++num_written;
        }
        push_summands(levels, i + 1 - summand.num_leaves, {&summand, 1}, kElements, i + 1 == count,
                      Reduction::kCanonical);
      }
      EXPECT_GE(num_written, may_add ? count - 1 : count / 2);
      EXPECT_EQ(memory[0], total(leaves, count, count));
    }
}

/// The steps of subtree_steps() as a device would do them.
float total_by_steps(const std::vector<float>& leaves, int64_t per_round, Reduction reduction, int64_t max_leaves) {
  const int64_t rounds = std::ssize(leaves) / per_round;
  std::vector<float> levels(num_step_levels(per_round, rounds, reduction, max_leaves), NAN);
  for (int64_t round = 0; round < rounds; ++round)
    for (const SubtreeStep& step :
         subtree_steps(round * per_round, per_round, round + 1 == rounds, reduction, max_leaves)) {
      EXPECT_LE(step.num_leaves, max_leaves);
      std::vector<float> tree(leaves.begin() + round * per_round + step.first_leaf,
                              leaves.begin() + round * per_round + step.first_leaf + step.num_leaves);
      for (; tree.size() > 1; tree.resize(tree.size() / 2))
        for (size_t i = 0; i < tree.size() / 2; ++i) tree[i] = tree[2 * i] + tree[2 * i + 1];
      for (const int open : step.open) tree[0] = levels[open] + tree[0];
      levels[step.out] = tree[0];
    }
  return levels[0];
}

TEST(SubtreeSteps, GiveTheBitsOfPushedSummands) {
  for (const int64_t per_round : {1, 2, 3, 5, 6, 7, 8, 16, 24, 33, 64})
    for (const int64_t rounds : {1, 2, 3, 4, 7})
      for (const int64_t max_leaves : {1, 2, 16}) {
        std::vector<float> leaves, memory(8);
        for (int64_t i = 0; i < per_round * rounds; ++i)
          leaves.push_back(static_cast<float>(random_normal(3, 0, static_cast<uint64_t>(i))));
        std::vector<float*> levels;
        for (float& level : memory) levels.push_back(&level);
        for (int64_t round = 0; round < rounds; ++round) {
          std::vector<Summand> summands;
          for (int64_t i = 0; i < per_round; ++i) summands.push_back({1, &leaves[round * per_round + i], false});
          push_summands(levels, round * per_round, summands, 1, round + 1 == rounds, Reduction::kCanonical);
        }
        EXPECT_EQ(total_by_steps(leaves, per_round, Reduction::kCanonical, max_leaves), memory[0])
            << per_round << " x " << rounds << ", at most " << max_leaves;
      }
}

TEST(SubtreeSteps, OfFastReductionAddToOneLevel) {
  EXPECT_EQ(num_step_levels(1, 5, Reduction::kFast, 16), 1);
  const std::vector<float> leaves = {1, 2, 4, 8, 16};
  EXPECT_EQ(total_by_steps(leaves, 1, Reduction::kFast, 16), 31);
}

}  // namespace
}  // namespace plumb
