// N ranks give the same bits as one, which trains the complete model by itself on all micro-batches.
#include "partition/sharded_model.hpp"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "tests/support/rank_work.hpp"
#include "tests/support/tiny_config.hpp"
#include "tests/support/tiny_training.hpp"

namespace plumb {
namespace {

using test::kMicroBatches;
using test::Outcome;
using test::train;

struct Case {
  const char* name;
  bool ties_embeddings;
  at::ScalarType dtype;
  bool has_gradient_checkpointing;
  bool has_8bit_moments = false;
};

const std::vector<Case> kCases = {{"untied_float32", false, at::kFloat, true},
                                  {"tied_float32", true, at::kFloat, true},
                                  {"untied_bfloat16", false, at::kBFloat16, true},
                                  {"tied_bfloat16_kept", true, at::kBFloat16, false},
                                  {"untied_8bit_moments", false, at::kFloat, true, true}};

Outcome train(const Communicator& comm, const Case& given) {
  return train(comm, test::tiny_config(given.ties_embeddings),
               {.dtype = given.dtype,
                .has_gradient_checkpointing = given.has_gradient_checkpointing,
                .has_8bit_moments = given.has_8bit_moments});
}

class ShardedModelBits : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_P(ShardedModelBits, AreThoseOfOneRank) {
  const Case& given = kCases[GetParam()];
  static const std::vector<Outcome> references = test::divide_among_ranks<Outcome>(
      kCases.size(), [](size_t i) { return train(Communicator(0, MPI_COMM_SELF), kCases[i]); });
  for (int ranks_per_node : {0, 1, 2, 3}) {
    if (ranks_per_node == Communicator().size()) continue;  // one node, as with 0
    const Communicator comm(ranks_per_node);
    ASSERT_EQ(kMicroBatches % comm.size(), 0) << "declare this test for ranks that divide 24";
    const Outcome together = train(comm, given);
    for (const std::vector<double>& losses : comm.all_gather(together.losses)) EXPECT_EQ(losses, together.losses);
    for (const std::vector<double>& norms : comm.all_gather(together.norms)) EXPECT_EQ(norms, together.norms);
    if (!test::is_mine(GetParam())) continue;
    const Outcome& alone = references[GetParam()];
    EXPECT_GT(alone.norms[0], 0);
    EXPECT_NE(alone.losses[0], alone.losses[2]);
    EXPECT_EQ(together.losses, alone.losses) << ranks_per_node << " ranks per node";
    EXPECT_EQ(together.norms, alone.norms) << ranks_per_node << " ranks per node";
    EXPECT_EQ(together.parameters, alone.parameters) << ranks_per_node << " ranks per node";
  }
}

INSTANTIATE_TEST_SUITE_P(All, ShardedModelBits, testing::Range(size_t{0}, kCases.size()),
                         [](const auto& one) { return std::string(kCases[one.param].name); });

TEST(ShardedModel, RecomputationChangesNoBit) {
  at::set_num_threads(1);
  const Communicator comm;
  const ModelConfig config = test::tiny_config();
  const Outcome recomputed = train(comm, config, {.has_gradient_checkpointing = true});
  const Outcome saved = train(comm, config, {.has_gradient_checkpointing = false});
  EXPECT_EQ(recomputed.parameters, saved.parameters);
}

TEST(ShardedModel, MomentsIn8BitsTrainNearlyAsThoseIn32) {
  at::set_num_threads(1);
  const Communicator comm;
  const ModelConfig config = test::tiny_config();
  const Outcome wide = train(comm, config, {});
  const Outcome narrow = train(comm, config, {.has_8bit_moments = true});
  EXPECT_EQ(narrow.losses[1], wide.losses[1]) << "the first step starts from moments of zero";
  EXPECT_NE(narrow.parameters, wide.parameters);
  EXPECT_NEAR(narrow.losses[2], wide.losses[2], 0.01 * wide.losses[2]);
}

TEST(ShardedModel, FastReductionIsNear) {
  at::set_num_threads(1);
  const Communicator comm;
  const ModelConfig config = test::tiny_config();
  const Outcome canonical = train(comm, config, {});
  const Outcome fast = train(comm, config, {.reduction = Reduction::kFast});
  for (size_t step = 0; step < 3; ++step)
    EXPECT_NEAR(fast.losses[step], canonical.losses[step], 1e-5 * canonical.losses[step]);
}

// In a world of one gradients are added in place; bfloat16 then rounds the same products, and adds them in another
// order.
TEST(ShardedModel, FastReductionOfOneRankIsNear) {
  at::set_num_threads(1);
  const Communicator alone(0, MPI_COMM_SELF);
  size_t number = 0;
  for (const bool is_tied : {false, true})
    for (const auto& [dtype, tolerance] : {std::pair(at::kFloat, 1e-5), std::pair(at::kBFloat16, 2e-2)}) {
      if (!test::is_mine(number++)) continue;
      const ModelConfig config = test::tiny_config(is_tied);
      const Outcome canonical = train(alone, config, {.dtype = dtype});
      const Outcome fast = train(alone, config, {.dtype = dtype, .reduction = Reduction::kFast});
      for (size_t step = 0; step < 3; ++step) {
        EXPECT_NEAR(fast.losses[step], canonical.losses[step], tolerance * canonical.losses[step]);
        EXPECT_NEAR(fast.norms[step], canonical.norms[step], tolerance * canonical.norms[step]);
      }
    }
}

TEST(ShardedModel, RunsTheCollectivesOfTheScheduleAndNoOther) {
  at::set_num_threads(1);
  const Communicator comm;
  for (bool is_tied : {false, true}) {
    const ModelConfig config = test::tiny_config(is_tied);
    const Outcome outcome = train(comm, config, {});
    const auto units = shard_layouts(config, comm.size());
    // written out: embedding, blocks 0-2, head; then per block downwards its gather and the gradient of the one above
    using enum CollectiveRecord::Kind;
    const int head = is_tied ? 0 : 4;
    std::vector<std::pair<CollectiveRecord::Kind, int>> once = {{kGather, 0}, {kGather, 1},    {kGather, 2},
                                                                {kGather, 3}, {kGather, head}, {kGather, 3}};
    if (!is_tied) once.push_back({kReduceScatter, head});
    once.insert(once.end(), {{kGather, 2},
                             {kReduceScatter, 3},
                             {kGather, 1},
                             {kReduceScatter, 2},
                             {kReduceScatter, 1},
                             {kReduceScatter, 0}});
    const size_t accumulation = static_cast<size_t>(kMicroBatches / comm.size());
    ASSERT_EQ(outcome.records.size(), once.size() * accumulation);
    for (size_t i = 0; i < outcome.records.size(); ++i) {
      const CollectiveRecord& record = outcome.records[i];
      EXPECT_EQ(record.kind, once[i % once.size()].first) << "operation " << i;
      EXPECT_EQ(record.unit, once[i % once.size()].second) << "operation " << i;
      EXPECT_EQ(record.bytes, units[record.unit].padded_elements() * 4);
    }
  }
}

}  // namespace
}  // namespace plumb
