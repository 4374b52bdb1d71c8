// As same_bits_test, for reward models and DPO: the same bits on any number of ranks and nodes, packed or not, for
// losses that need all pairs of a global batch, and with or without start-up checks.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/bits_test.hpp"

namespace plumb::test {
namespace {

class SameBitsOfPairs : public BitsTest {};

TEST_P(SameBitsOfPairs, OnAnyNumberOfRanksAndNodes) {
  EXPECT_EQ(outcome_of(2, {{"startup_checks", "false"}}), one_rank_);
  EXPECT_EQ(outcome_of(4), one_rank_);
  EXPECT_EQ(outcome_of(8), one_rank_);
  EXPECT_EQ(outcome_of(8, {}, 3), one_rank_);
}

TEST_P(SameBitsOfPairs, OfPackedRows) {
  const Options packing = {{"packing", "true"}, {"max_length", "64"}};
  const Outcome one_rank = outcome_of(1, packing);
  ASSERT_FALSE(one_rank.lines.empty());
  EXPECT_NE(one_rank, one_rank_);
  EXPECT_EQ(outcome_of(4, packing, 3), one_rank);
}

INSTANTIATE_TEST_SUITE_P(Stage, SameBitsOfPairs,
                         testing::Values(BitsCase{"reward", "float32"}, BitsCase{"reward", "bfloat16"},
                                         BitsCase{"dpo", "float32"}, BitsCase{"dpo", "bfloat16"}),
                         [](const auto& given) { return std::string(given.param.stage) + "_" + given.param.dtype; });

class SameBitsOfAllPairs : public BitsTest {};

TEST_P(SameBitsOfAllPairs, OnAnyNumberOfRanksAndNodes) {
  const Options aot = {{"loss_type", "aot bco_pair"}, {"ld_alpha", "0.5"}};
  const Outcome one_rank = outcome_of(1, aot);
  ASSERT_FALSE(one_rank.lines.empty());
  EXPECT_NE(one_rank, one_rank_);
  EXPECT_EQ(outcome_of(4, aot), one_rank);
  EXPECT_EQ(outcome_of(8, aot, 3), one_rank);
}

INSTANTIATE_TEST_SUITE_P(Dtype, SameBitsOfAllPairs, testing::Values(BitsCase{"dpo", "float32"}),
                         [](const auto& given) { return std::string(given.param.dtype); });

}  // namespace
}  // namespace plumb::test
