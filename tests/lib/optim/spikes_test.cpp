#include "lib/optim/spikes.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace plumb {
namespace {

/// Alternates losses of 2.0 +- 0.1 and norms of 1.0 +- 0.5.
StepHistory history_of(int num_steps) {
  StepHistory history;
  for (int i = 0; i < num_steps; ++i) add_step(history, i % 2 == 0 ? 2.1 : 1.9, i % 2 == 0 ? 1.5 : 0.5);
  return history;
}

TEST(Spikes, EarlyMeanAndVarianceAreExact) {
  const StepHistory history = history_of(10);
  EXPECT_NEAR(history.loss_mean, 2.0, 1e-12);
  EXPECT_NEAR(history.loss_variance, 0.01, 1e-12);
}

TEST(Spikes, LossFarAboveItsMeanIsASpike) {
  const StepHistory history = history_of(50);
  EXPECT_EQ(describe_spike(history, 2.5, 1, 6), "");
  EXPECT_NE(describe_spike(history, 2.7, 1, 6).find("loss 2.7 is 7 standard deviations"), std::string::npos);
  EXPECT_NE(describe_spike(history, 2.5, 1, 4), "");
  EXPECT_EQ(describe_spike(history, -5, 1, 4), "");  // lower is no spike
}

TEST(Spikes, NormFarAboveTheMedianIsASpike) {
  const StepHistory history = history_of(51);
  EXPECT_EQ(describe_spike(history, 2, 14.9, 6), "");
  EXPECT_NE(describe_spike(history, 2, 15.1, 6).find("gradient norm 15.1"), std::string::npos);
}

TEST(Spikes, NoSpikeWithoutThresholdOrInTheFirstSteps) {
  EXPECT_EQ(describe_spike(history_of(50), 1e9, 1e9, 0), "");
  EXPECT_EQ(describe_spike(history_of(19), 1e9, 1e9, 6), "");
  EXPECT_NE(describe_spike(history_of(20), 1e9, 1e9, 6), "");
}

TEST(Spikes, EqualLossesAllowOnePercent) {
  StepHistory history;
  for (int i = 0; i < 30; ++i) add_step(history, 0.5, 1);
  EXPECT_EQ(describe_spike(history, 0.52, 1, 6), "");
  EXPECT_NE(describe_spike(history, 0.54, 1, 6), "");
}

TEST(Spikes, OldStepsFade) {
  StepHistory history = history_of(50);
  for (int i = 0; i < 300; ++i) add_step(history, i % 2 == 0 ? 3.1 : 2.9, 100);
  EXPECT_NEAR(history.loss_mean, 3.0, 0.02);
  EXPECT_EQ(history.grad_norms.size(), kGradNormsKept);
  EXPECT_EQ(describe_spike(history, 3, 900, 6), "");
}

}  // namespace
}  // namespace plumb
