// SameBits: the same global batch gives the same bits on any number of ranks and nodes: all logged metrics, as text,
// and the exported weights. 24 micro-batches of one row per step.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/bits_test.hpp"

namespace plumb::test {
namespace {

using SameBits = BitsTest;

// With those of the other tests: on 1, 2, 3, 4, 6 and 8.
TEST_P(SameBits, OnAnyNumberOfRanks) {
  for (const int num_ranks : {3, 8}) EXPECT_EQ(outcome_of(num_ranks), one_rank_) << num_ranks << " ranks";
}

TEST_P(SameBits, OnSeveralNodesOfUnequalSize) {
  EXPECT_EQ(outcome_of(4, {}, 2), one_rank_);
  EXPECT_EQ(outcome_of(8, {}, 3), one_rank_);
}

TEST_P(SameBits, WithDataThatOtherRanksPrepared) {
  EXPECT_EQ(outcome_of(1), one_rank_);
  EXPECT_EQ(outcome_of(2), one_rank_);
  size_t num_shards = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "out/data"))
    num_shards += entry.path().filename().string().starts_with("shard-") ? 1 : 0;
  EXPECT_EQ(num_shards, 2u);  // one of training and one of evaluation, both from the run on one rank
}

TEST_P(SameBits, WithoutGradientCheckpointing) {
  EXPECT_EQ(outcome_of(6, {{"gradient_checkpointing", "false"}}), one_rank_);
}

TEST_P(SameBits, OfPackedRows) {
  const Options packing = {{"packing", "true"}, {"max_length", "64"}};
  const Outcome one_rank = outcome_of(1, packing);
  ASSERT_FALSE(one_rank.metrics.empty());
  EXPECT_NE(one_rank, one_rank_);
  EXPECT_EQ(outcome_of(4, packing), one_rank);
  EXPECT_EQ(outcome_of(8, packing, 3), one_rank);
}

TEST_P(SameBits, FastReductionIsNear) {
  const Outcome fast = outcome_of(3, {{"reduction", "fast"}}, 2);
  ASSERT_EQ(fast.metrics.size(), one_rank_.metrics.size());
  const double tolerance = 1e-5;
  for (size_t i = 0; i < fast.metrics.size(); ++i) {
    const auto expected = nlohmann::json::parse(one_rank_.metrics[i]);
    const auto got = nlohmann::json::parse(fast.metrics[i]);
    for (const char* key : {"loss", "grad_norm", "eval_loss"})
      if (expected.contains(key)) {
        EXPECT_NEAR(got[key].get<double>() / expected[key].get<double>(), 1, tolerance) << key << " of line " << i + 1;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtype, SameBits, testing::Values(BitsCase{"sft", "float32"}, BitsCase{"sft", "bfloat16"}),
                         [](const auto& given) { return std::string(given.param.dtype); });

}  // namespace
}  // namespace plumb::test
