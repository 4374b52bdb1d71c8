// Advantages of hand-made groups, and the metrics of a round.
#include "lib/objective/advantages.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

const double kNone = std::numeric_limits<double>::quiet_NaN();

RewardTable table(size_t num_functions, std::vector<double> values) { return {num_functions, std::move(values)}; }

void expect_near(const std::vector<double>& got, const std::vector<double>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-12) << i;
}

AdvantageOptions groups_of(int64_t size, RewardScale scale = RewardScale::kGroup) {
  return {.num_generations = size, .reward_weights = {}, .scale_rewards = scale};
}

TEST(GrpoAdvantages, AreCenteredAndScaledByGroup) {
  const RewardTable rewards = table(1, {1, 2, 6, 0, 0, 0});
  const double s = std::sqrt(7.0);  // of 1, 2, 6: squares 4 + 1 + 9 over 2
  const RoundAdvantages round = grpo_advantages(groups_of(3), rewards);
  expect_near(round.advantages, {-2 / (s + 1e-4), -1 / (s + 1e-4), 3 / (s + 1e-4), 0, 0, 0});
  EXPECT_EQ(round.frac_reward_zero_std, 0.5);
  EXPECT_EQ(round.rewards, (std::vector<double>{1, 2, 6, 0, 0, 0}));
  expect_near(grpo_advantages(groups_of(3, RewardScale::kNone), rewards).advantages, {-2, -1, 3, 0, 0, 0});
}

TEST(GrpoAdvantages, ScaledByTheBatchKeepTheBaselineOfTheGroup) {
  const RoundAdvantages round = grpo_advantages(groups_of(2, RewardScale::kBatch), table(1, {1, 3, 5, 7}));
  const double s = std::sqrt(20.0 / 3) + 1e-4;
  expect_near(round.advantages, {-1 / s, 1 / s, -1 / s, 1 / s});
  EXPECT_EQ(round.frac_reward_zero_std, 0);
  EXPECT_EQ(grpo_advantages(groups_of(2, RewardScale::kBatch), table(1, {2, 2, 2, 2})).frac_reward_zero_std, 1);
}

// 0.1 + 0.2 + 0.3 is not 0.6: the mean of equal rewards must still be each of them
TEST(GrpoAdvantages, OfEqualRewardsAreExactlyZero) {
  const RewardTable rewards = table(1, {0.1, 0.1, 0.1, 0.7, 0.7, 0.7, -1e9, -1e9, -1e9});
  for (const RewardScale scale : {RewardScale::kGroup, RewardScale::kNone, RewardScale::kBatch}) {
    const RoundAdvantages round = grpo_advantages(groups_of(3, scale), rewards);
    EXPECT_EQ(round.advantages, std::vector<double>(9, 0.0));
    EXPECT_EQ(round.frac_reward_zero_std, scale == RewardScale::kBatch ? 0 : 1);
  }
  EXPECT_EQ(rloo_advantages({.num_generations = 3, .reward_weights = {}, .reward_clip_range = {}, .beta = 0}, rewards)
                .advantages,
            std::vector<double>(9, 0.0));
}

TEST(GrpoAdvantages, WeighSeveralFunctionsAndLeaveOutWhatDoesNotApply) {
  AdvantageOptions options = groups_of(2, RewardScale::kNone);
  options.reward_weights = {1, 0.5};
  const RoundAdvantages round = grpo_advantages(options, table(2, {1, 4, kNone, 2, 3, kNone, kNone, kNone}));
  EXPECT_EQ(round.rewards[0], 3);
  EXPECT_EQ(round.rewards[1], 1);
  EXPECT_EQ(round.rewards[2], 3);
  EXPECT_TRUE(std::isnan(round.rewards[3]));
  expect_near(round.advantages, {1, -1, 0, 0});
}

TEST(GrpoAdvantages, OfAGroupWithOneOrNoRewardAreZero) {
  const RewardTable rewards = table(1, {5, kNone, kNone, kNone, 1, 3});
  const double s = std::sqrt(2.0) + 1e-4;
  const RoundAdvantages round = grpo_advantages(groups_of(2), rewards);
  expect_near(round.advantages, {0, 0, 0, 0, -1 / s, 1 / s});
  EXPECT_EQ(round.frac_reward_zero_std, 0) << "the deviation of one value is unknown, not 0";
}

TEST(GrpoAdvantages, NormalizeThenSumWeighsNormalizedValues) {
  AdvantageOptions options = groups_of(2);
  options.aggregation = RewardAggregation::kNormalizeThenSum;
  options.reward_weights = {1, 2};
  // per function and group: -+1 / (sqrt 2 + 1e-4) of a distance of 2; -+50 / (sqrt 5000 + 1e-4) of 100; 0 of 0
  const RoundAdvantages round = grpo_advantages(options, table(2, {1, 100, 3, 0, 7, 4, 7, 4}));
  const double a = 1 / (std::sqrt(2.0) + 1e-4), b = 2 * 50 / (std::sqrt(5000.0) + 1e-4);
  const double x = b - a;  // of the first; the second is its negative, the others are 0
  const double s = std::sqrt(2 * x * x / 3) + 1e-4;
  expect_near(round.advantages, {x / s, -x / s, 0, 0});
  EXPECT_EQ(round.rewards, (std::vector<double>{201, 3, 15, 15}));
  EXPECT_EQ(round.frac_reward_zero_std, 0);
  // a group in which a function applies once says nothing about it; no reward at all is left out
  options.reward_weights = {};
  const RoundAdvantages sparse = grpo_advantages(options, table(2, {1, kNone, kNone, kNone, 1, 2, 2, 1}));
  EXPECT_EQ(sparse.advantages, (std::vector<double>{0, 0, 0, 0}));
}

TEST(RlooAdvantages, LeaveOneOut) {
  RlooAdvantageOptions options = {.num_generations = 3, .reward_weights = {}, .reward_clip_range = {}, .beta = 0};
  expect_near(rloo_advantages(options, table(1, {1, 2, 6})).advantages, {-3, -1.5, 4.5});
  options.num_generations = 2;
  const RoundAdvantages round = rloo_advantages(options, table(1, {1, 4, 2, 2, 3, kNone, kNone, kNone}));
  expect_near(round.advantages, {-3, 3, 0, 0, 0, 0, 0, 0});
  EXPECT_EQ(round.frac_reward_zero_std, 0.25) << "of groups";
}

TEST(RlooAdvantages, ClipThenPenalizeThenNormalize) {
  RlooAdvantageOptions options = {
      .num_generations = 2, .reward_weights = {}, .reward_clip_range = std::pair(-1.0, 1.0), .beta = 0.5};
  const std::vector<double> kl = {0.2, 0, -1, 0.4};
  // clipped 1, -1, 0.5, 1; less the divergence .9, -1, 1, .8
  expect_near(rloo_advantages(options, table(1, {9, -3, 0.5, 1}), kl).advantages, {1.9, -1.9, 0.2, -0.2});
  EXPECT_EQ(rloo_advantages(options, table(1, {9, -3, 0.5, 1}), kl).rewards[0], 9)
      << "logged without clip and divergence";
  options.normalizes_advantages = true;
  const double s = std::sqrt((2 * 1.9 * 1.9 + 2 * 0.2 * 0.2) / 3) + 1e-4;
  expect_near(rloo_advantages(options, table(1, {9, -3, 0.5, 1}), kl).advantages,
              {1.9 / s, -1.9 / s, 0.2 / s, -0.2 / s});
}

TEST(RoundMetrics, HaveTrlsNamesAndValues) {
  const RewardTable rewards = table(2, {1, kNone, 3, kNone});
  const std::vector<Metric> got =
      reward_metrics(std::vector<std::string>{"a", "b"}, rewards, grpo_advantages(groups_of(2), rewards));
  std::vector<std::string> names;
  for (const Metric& metric : got) names.push_back(metric.name);
  EXPECT_EQ(names, (std::vector<std::string>{"rewards/a/mean", "rewards/a/std", "rewards/b/mean", "rewards/b/std",
                                             "reward", "reward_std", "frac_reward_zero_std"}));
  EXPECT_EQ(got[0].value, 2);
  EXPECT_DOUBLE_EQ(got[1].value, std::sqrt(2.0));
  EXPECT_TRUE(std::isnan(got[2].value) && std::isnan(got[3].value));
  EXPECT_EQ(got[4].value, 2);
  const std::vector<Metric> lengths = completion_metrics(std::vector<int64_t>{4, 2, 9}, {true, false, false});
  std::vector<double> values;
  for (const Metric& metric : lengths) values.push_back(metric.value);
  EXPECT_EQ(values, (std::vector<double>{5, 2, 9, 1.0 / 3, 5.5, 2, 9}));
  EXPECT_EQ(completion_metrics(std::vector<int64_t>{4}, {true})[4].value, 0) << "none ended";
}

TEST(AdvantageOptions, ThatMeanNothingAreRefused) {
  AdvantageOptions options;
  validate(options, 1);
  EXPECT_THROW(validate(options, 0), UsageError);
  options.reward_weights = {1, 2};
  EXPECT_THROW(validate(options, 1), UsageError);
  options.num_generations = 1;
  EXPECT_THROW(validate(options, 2), UsageError);
  EXPECT_THROW(
      validate(
          RlooAdvantageOptions{.num_generations = 2, .reward_weights = {}, .reward_clip_range = std::pair(1.0, -1.0)},
          1),
      UsageError);
}

}  // namespace
}  // namespace plumb
