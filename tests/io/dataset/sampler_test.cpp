#include "io/dataset/sampler.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

SamplerOptions options_of(bool shuffle, int64_t rows_per_micro_batch, int64_t accumulation_steps = 1) {
  SamplerOptions options;
  options.seed = 42;
  options.shuffle = shuffle;
  options.rows_per_micro_batch = rows_per_micro_batch;
  options.accumulation_steps = accumulation_steps;
  return options;
}

std::vector<int64_t> epoch_order(const SamplerOptions& options, int64_t epoch, int64_t num_rows) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < num_rows; ++i) order.push_back(row_at(options, epoch, i, num_rows));
  return order;
}

std::vector<int64_t> counting(int64_t size) {
  std::vector<int64_t> values(size);
  std::iota(values.begin(), values.end(), 0);
  return values;
}

TEST(Sampler, EveryEpochHasEveryRowOnce) {
  for (const int64_t num_rows : {1, 2, 5, 64, 1000}) {
    for (const int64_t epoch : {0, 1, 7}) {
      std::vector<int64_t> order = epoch_order(options_of(true, 1), epoch, num_rows);
      std::sort(order.begin(), order.end());
      EXPECT_EQ(order, counting(num_rows)) << num_rows << " rows, epoch " << epoch;
    }
  }
}

TEST(Sampler, OrderDependsOnSeedAndEpoch) {
  const SamplerOptions options = options_of(true, 1);
  SamplerOptions other_seed = options;
  other_seed.seed = 43;
  EXPECT_NE(epoch_order(options, 0, 100), epoch_order(options, 1, 100));
  EXPECT_NE(epoch_order(options, 0, 100), epoch_order(other_seed, 0, 100));
  EXPECT_NE(epoch_order(options, 0, 100), counting(100));
}

TEST(Sampler, WithoutShuffleRowsComeInFileOrder) { EXPECT_EQ(epoch_order(options_of(false, 1), 3, 20), counting(20)); }

TEST(Sampler, TheLastStepOfAnEpochMayBeShort) {
  const SamplerOptions options = options_of(false, 2, 2);
  const StepLayout layout = make_step_layout(options, 17, 2);  // steps of 4 x 2 rows
  EXPECT_EQ(layout.steps_per_epoch(), 3);
  using Rows = std::vector<int64_t>;
  EXPECT_EQ(rows_of_micro_batch(options, layout, 0, 3), (Rows{6, 7}));
  EXPECT_EQ(rows_of_micro_batch(options, layout, 2, 0), (Rows{16}));
  EXPECT_EQ(rows_of_micro_batch(options, layout, 2, 1), Rows{});
  EXPECT_EQ(rows_of_micro_batch(options, layout, 3, 0), (Rows{0, 1}));  // the next epoch
}

TEST(Sampler, DropLastLeavesOutTheShortStep) {
  SamplerOptions options = options_of(false, 2, 2);
  options.drop_last = true;
  const auto steps = [&](int64_t num_rows) { return make_step_layout(options, num_rows, 2).steps_per_epoch(); };
  EXPECT_EQ(steps(17), 2);
  EXPECT_EQ(steps(16), 2);
  EXPECT_EQ(steps(15), 1);
  EXPECT_EQ(steps(7), 0);
}

TEST(Sampler, CountsThatAreNotPositiveOrTooLargeAreUsageErrors) {
  EXPECT_THROW(make_step_layout(options_of(true, 0), 10, 1), UsageError);
  EXPECT_THROW(make_step_layout(options_of(true, -1), 10, 1), UsageError);
  EXPECT_THROW(make_step_layout(options_of(true, 1, 0), 10, 1), UsageError);
  EXPECT_THROW(make_step_layout(options_of(true, INT64_MAX, 4), 10, 4), UsageError);
}

}  // namespace
}  // namespace plumb
