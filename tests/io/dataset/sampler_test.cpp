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

TEST(Sampler, WeightsDecideTheRowsOfAnEpoch) {
  const auto counts = [](std::vector<int64_t> rows, std::vector<double> weights, StoppingStrategy strategy) {
    std::vector<int64_t> result;
    for (const RowSource& source : mix_sources(rows, weights, strategy)) result.push_back(source.rows_per_epoch);
    return result;
  };
  using Counts = std::vector<int64_t>;
  constexpr auto kFirst = StoppingStrategy::kFirstExhausted, kAll = StoppingStrategy::kAllExhausted;
  EXPECT_EQ(counts({70, 1000}, {0.7, 0.3}, kFirst), (Counts{70, 30}));
  EXPECT_EQ(counts({70, 1000}, {7, 3}, kFirst), (Counts{70, 30}));
  EXPECT_EQ(counts({70, 300}, {0.7, 0.3}, kAll), (Counts{700, 300}));
  EXPECT_EQ(counts({5, 5, 5}, {1, 1, 1}, kFirst), (Counts{5, 5, 5}));
  EXPECT_EQ(counts({10, 10}, {2, 1}, kFirst), (Counts{10, 5}));
  EXPECT_EQ(counts({10, 11}, {2, 1}, kFirst), (Counts{10, 5}));
  EXPECT_EQ(counts({4, 4, 4}, {0.4, 0.3, 0.3}, kFirst), (Counts{4, 3, 3}));
}

TEST(Sampler, WeightsThatLeaveAnItemWithoutRowsAreRefused) {
  const auto mix = [](std::vector<int64_t> rows, std::vector<double> weights) {
    return mix_sources(rows, weights, StoppingStrategy::kFirstExhausted);
  };
  EXPECT_THROW(mix({3, 10}, {1000, 1}), UsageError);
  EXPECT_THROW(mix({3, 0}, {1, 1}), DataError);
  EXPECT_THROW(mix_sources(std::vector<int64_t>{3, 1'000'000'000}, std::vector<double>{1, 1e-9},
                           StoppingStrategy::kAllExhausted),
               UsageError);
}

TEST(Sampler, AMixHasTheRowsOfItsSourcesInTurn) {
  SamplerOptions options = options_of(true, 2, 3);
  options.mix = mix_sources(std::vector<int64_t>{6, 25}, std::vector<double>{0.75, 0.25},
                            StoppingStrategy::kAllExhausted);  // epochs of 100: 75 and 25
  const StepLayout layout = make_step_layout(options, 31, 2);
  EXPECT_EQ(layout.num_rows, 100);
  std::vector<int64_t> num_seen(31);
  for (int64_t step = 0; step < 2 * layout.steps_per_epoch(); ++step) {
    for (int64_t micro_batch = 0; micro_batch < 6; ++micro_batch) {
      for (const int64_t row : rows_of_micro_batch(options, layout, step, micro_batch)) ++num_seen[row];
    }
  }
  // two epochs: 150 draws of 6 rows, and every one of 25 rows twice
  for (int64_t row = 0; row < 31; ++row) EXPECT_EQ(num_seen[row], row < 6 ? 25 : 2) << row;

  options.mix = mix_sources(std::vector<int64_t>{6, 25}, std::vector<double>{0.75, 0.25},
                            StoppingStrategy::kFirstExhausted);  // epochs of 8: 6 and 2
  num_seen.assign(31, 0);
  for (int64_t epoch = 0; epoch < 12; ++epoch) {
    std::vector<int64_t> order = epoch_order(options, epoch, 8);
    EXPECT_EQ(std::count_if(order.begin(), order.end(), [](int64_t row) { return row < 6; }), 6);
    for (const int64_t row : order) ++num_seen[row];
  }
  // the larger source continues where the epoch before ended: 24 draws of 25 rows, none twice
  for (int64_t row = 6; row < 31; ++row) EXPECT_LE(num_seen[row], 1) << row;
}

}  // namespace
}  // namespace plumb
