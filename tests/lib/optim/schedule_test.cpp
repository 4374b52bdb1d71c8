#include "lib/optim/schedule.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

// The factors of transformers.optimization, reimplemented: (step, warmup steps, training steps) to a factor.
double linear_factor(int64_t step, int64_t warmup, int64_t total) {
  if (step < warmup) return double(step) / double(std::max<int64_t>(1, warmup));
  return std::max(0.0, double(total - step) / double(std::max<int64_t>(1, total - warmup)));
}
double cosine_factor(int64_t step, int64_t warmup, int64_t total) {
  if (step < warmup) return double(step) / double(std::max<int64_t>(1, warmup));
  const double progress = double(step - warmup) / double(std::max<int64_t>(1, total - warmup));
  constexpr double kNumCycles = 0.5;
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * kNumCycles * 2.0 * progress)));
}
double constant_factor(int64_t, int64_t, int64_t) { return 1.0; }
double constant_with_warmup_factor(int64_t step, int64_t warmup, int64_t) {
  return step < warmup ? double(step) / std::max(1.0, double(warmup)) : 1.0;
}

TEST(Schedule, MatchesTransformersAtEveryStep) {
  using enum ScheduleKind;
  const std::pair<ScheduleKind, std::function<double(int64_t, int64_t, int64_t)>> kinds[] = {
      {kLinear, linear_factor},
      {kCosine, cosine_factor},
      {kConstant, constant_factor},
      {kConstantWithWarmup, constant_with_warmup_factor}};
  constexpr double kPeak = 3e-4;
  for (const auto& [kind, factor] : kinds)
    for (const int64_t total : {1, 2, 10, 1000})
      for (const int64_t warmup : {0, 1, 3, 10, 100})
        for (int64_t step = 0; step <= total + 5; ++step) {
          const Schedule schedule{kind, kPeak, warmup, total};
          // the factors agree up to the rounding of cos() and one product
          EXPECT_NEAR(schedule.at(step), kPeak * factor(step, warmup, total), kPeak * 1e-15)
              << static_cast<int>(kind) << " total " << total << " warmup " << warmup << " step " << step;
        }
}

TEST(Schedule, HasTheseValues) {
  const auto at = [](ScheduleKind kind, int64_t step) { return Schedule{kind, 2.0, 4, 12}.at(step); };
  using enum ScheduleKind;
  for (const ScheduleKind kind : {kLinear, kCosine, kConstantWithWarmup}) {
    EXPECT_EQ(at(kind, 0), 0.0);
    EXPECT_EQ(at(kind, 1), 0.5);
    EXPECT_EQ(at(kind, 3), 1.5);
    EXPECT_EQ(at(kind, 4), 2.0);
  }
  EXPECT_EQ(at(kLinear, 8), 1.0);
  EXPECT_EQ(at(kLinear, 11), 0.25);
  EXPECT_EQ(at(kLinear, 12), 0.0);
  EXPECT_DOUBLE_EQ(at(kCosine, 6), 1.0 + std::numbers::sqrt2 / 2);
  EXPECT_DOUBLE_EQ(at(kCosine, 8), 1.0);
  EXPECT_EQ(at(kCosine, 12), 0.0);
  EXPECT_EQ(at(kConstantWithWarmup, 12), 2.0);
  EXPECT_EQ(at(kConstant, 0), 2.0);
  EXPECT_EQ(at(kConstant, 12), 2.0);
}

TEST(Schedule, WithoutWarmupStartsAtThePeak) {
  using enum ScheduleKind;
  for (const ScheduleKind kind : {kLinear, kCosine, kConstant, kConstantWithWarmup})
    EXPECT_EQ((Schedule{kind, 1e-5, 0, 7}.at(0)), 1e-5);
}

TEST(Schedule, NeverGoesBelowZero) {
  for (int64_t step = 0; step < 50; ++step) {
    EXPECT_GE((Schedule{ScheduleKind::kLinear, 1.0, 2, 10}.at(step)), 0.0);
    EXPECT_GE((Schedule{ScheduleKind::kCosine, 1.0, 2, 10}.at(step)), 0.0);
  }
}

TEST(ParseSchedule, AcceptsTheNamesOfTransformers) {
  EXPECT_EQ(value_named<ScheduleKind>("linear", "lr_scheduler_type"), ScheduleKind::kLinear);
  EXPECT_EQ(value_named<ScheduleKind>("cosine", "lr_scheduler_type"), ScheduleKind::kCosine);
  EXPECT_EQ(value_named<ScheduleKind>("constant", "lr_scheduler_type"), ScheduleKind::kConstant);
  EXPECT_EQ(value_named<ScheduleKind>("constant_with_warmup", "lr_scheduler_type"), ScheduleKind::kConstantWithWarmup);
  try {
    value_named<ScheduleKind>("polynomial", "lr_scheduler_type");
    FAIL() << "did not throw";
  } catch (const UsageError& error) {
    for (const char* expected : {"polynomial", "linear", "cosine", "constant", "constant_with_warmup"})
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace plumb
