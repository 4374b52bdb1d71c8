// SameBits for losses that need all pairs of a global batch.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/bits_test.hpp"

namespace plumb::test {
namespace {

class SameBitsOfAllPairs : public BitsTest {};

TEST_P(SameBitsOfAllPairs, OnAnyNumberOfRanksAndNodes) {
  const Options aot = {{"loss_type", "aot bco_pair"}, {"ld_alpha", "0.5"}};
  const Outcome one_rank = outcome_of(1, aot);
  ASSERT_FALSE(one_rank.metrics.empty());
  EXPECT_NE(one_rank, one_rank_);
  EXPECT_EQ(outcome_of(4, aot), one_rank);
  EXPECT_EQ(outcome_of(8, aot, 3), one_rank);
}

INSTANTIATE_TEST_SUITE_P(Dtype, SameBitsOfAllPairs, testing::Values(BitsCase{"dpo", "float32"}),
                         [](const auto& given) { return std::string(given.param.dtype); });

}  // namespace
}  // namespace plumb::test
