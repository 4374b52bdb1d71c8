#include "io/dataset/packing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>

namespace plumb {
namespace {

using Lengths = std::vector<int64_t>;

Lengths random_lengths(size_t num_examples, int64_t least, int64_t most, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int64_t> draw(least, most);
  Lengths lengths(num_examples);
  std::generate(lengths.begin(), lengths.end(), [&] { return draw(random); });
  return lengths;
}

int64_t tokens_of(std::span<const int64_t> row, const Lengths& lengths) {
  return std::accumulate(row.begin(), row.end(), int64_t{0},
                         [&](int64_t sum, int64_t example) { return sum + lengths[example]; });
}

/// The first property of every plan that does not hold for this one.
std::string fault_of(const PackingPlan& plan, const Lengths& lengths, int64_t capacity) {
  std::vector<int64_t> sorted = plan.examples, every(lengths.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(every.begin(), every.end(), 0);
  if (sorted != every) return "not every example once";
  if (plan.offsets.front() != 0 || plan.offsets.back() != std::ssize(lengths)) return "offsets";
  for (int64_t i = 0; i < plan.num_rows(); ++i) {
    const auto row = plan.row(i);
    if (row.empty()) return "an empty row";
    if (row.size() > 1 && tokens_of(row, lengths) > capacity) return "a row over capacity";
    if (!std::is_sorted(row.begin(), row.end())) return "examples out of order";
    if (i > 0 && plan.row(i - 1).front() >= row.front()) return "rows out of order";
  }
  return "";
}

TEST(Packing, BestFitDecreasing) {
  // 7 | 6 | then 3 fits 7 exactly, 2 goes to 6, where less room is left than in a new row, and 5 opens the last
  const PackingPlan plan = pack_best_fit(Lengths{3, 6, 2, 7, 5}, 10);
  EXPECT_EQ(plan.examples, (std::vector<int64_t>{0, 3, 1, 2, 4}));
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 2, 4, 5}));
}

TEST(Packing, TheTightestRowIsTaken) {
  // 8, 7 and 6 open rows; 3 fits that of 7 exactly, though that of 6 has room too
  const PackingPlan plan = pack_best_fit(Lengths{6, 7, 8, 3}, 10);
  EXPECT_EQ(plan.examples, (std::vector<int64_t>{0, 1, 3, 2}));
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 1, 3, 4}));
}

TEST(Packing, LongerThanARowStandsAlone) {
  const PackingPlan plan = pack_best_fit(Lengths{1, 25, 10, 11, 2}, 10);
  EXPECT_EQ(plan.examples, (std::vector<int64_t>{0, 4, 1, 2, 3}));
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 2, 3, 4, 5}));
}

TEST(Packing, NoExamplesGiveNoRows) { EXPECT_EQ(pack_best_fit(Lengths{}, 10).num_rows(), 0); }

TEST(Packing, HoldsForRandomLengths) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    const Lengths lengths = random_lengths(1 + seed % 97, 1, 1 + seed % 40, seed);
    for (const int64_t capacity : {1, 7, 32}) {
      const PackingPlan plan = pack_best_fit(lengths, capacity);
      ASSERT_EQ(fault_of(plan, lengths, capacity), "") << "seed " << seed << " capacity " << capacity;
      // best fit leaves no two rows that could be one: the later was opened only because nothing else had room
      std::vector<int64_t> tokens;
      for (int64_t i = 0; i < plan.num_rows(); ++i) tokens.push_back(tokens_of(plan.row(i), lengths));
      std::sort(tokens.begin(), tokens.end());
      ASSERT_TRUE(tokens.size() < 2 || tokens[0] + tokens[1] > capacity) << "seed " << seed;
    }
  }
}

TEST(Packing, ShortExamplesFillRows) {
  constexpr int64_t kCapacity = 1024;
  for (unsigned seed = 0; seed < 5; ++seed) {
    const Lengths lengths = random_lengths(20'000, 1, 300, seed);
    const int64_t num_tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    const double fewest = static_cast<double>((num_tokens + kCapacity - 1) / kCapacity);
    EXPECT_LE(static_cast<double>(pack_best_fit(lengths, kCapacity).num_rows()), 1.02 * fewest + 1) << seed;
  }
}

TEST(Packing, AMillionExamplesTakeSeconds) {
  constexpr int64_t kCapacity = 2048;
  const Lengths lengths = random_lengths(1'000'000, 1, 2 * kCapacity, 1);
  const PackingPlan plan = pack_best_fit(lengths, kCapacity);
  EXPECT_EQ(fault_of(plan, lengths, kCapacity), "");
  EXPECT_EQ(plan, pack_best_fit(lengths, kCapacity));
}

TEST(Packing, PartsShareNoRow) {
  const std::vector<int64_t> tokens = {3, 1, 2, 2, 1, 3};
  const std::vector<int64_t> parts = {2, 4};
  const PackingPlan plan = pack_parts(tokens, 4, parts);
  EXPECT_EQ(plan.examples, (std::vector<int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(plan.offsets, (std::vector<int64_t>{0, 2, 4, 6}));
  const std::vector<int64_t> one_each = {1, 1, 1, 1, 1, 1};
  EXPECT_EQ(pack_parts(tokens, 4, one_each).num_rows(), 6);
  EXPECT_EQ(pack_parts(tokens, 4, {}), pack_best_fit(tokens, 4));
}

}  // namespace
}  // namespace plumb
