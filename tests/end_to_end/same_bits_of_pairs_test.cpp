// SameBits for reward models and DPO, packed or not, with or without start-up checks.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/bits_test.hpp"

namespace plumb::test {
namespace {

class SameBitsOfPairs : public BitsTest {};

TEST_P(SameBitsOfPairs, OnAnyNumberOfRanksAndNodes) {
  EXPECT_EQ(outcome_of(3, {{"startup_checks", "false"}}), one_rank_);
  EXPECT_EQ(outcome_of(6, {}, 4), one_rank_);
}

TEST_P(SameBitsOfPairs, OfPackedRows) {
  const Options packing = {{"packing", "true"}, {"max_length", "64"}};
  const Outcome one_rank = outcome_of(1, packing);
  ASSERT_FALSE(one_rank.metrics.empty());
  EXPECT_NE(one_rank, one_rank_);
  EXPECT_EQ(outcome_of(4, packing, 3), one_rank);
}

INSTANTIATE_TEST_SUITE_P(Stage, SameBitsOfPairs,
                         testing::Values(BitsCase{"reward", "float32"}, BitsCase{"reward", "bfloat16"},
                                         BitsCase{"dpo", "float32"}, BitsCase{"dpo", "bfloat16"}),
                         [](const auto& given) { return std::string(given.param.stage) + "_" + given.param.dtype; });

}  // namespace
}  // namespace plumb::test
