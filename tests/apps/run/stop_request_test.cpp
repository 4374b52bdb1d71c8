#include "apps/run/stop_request.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <ctime>
#include <string>

#include "apps/options/options.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

TEST(Duration, IsSecondsOrHasColons) {
  EXPECT_EQ(parse_duration("0", "max_time"), 0);
  EXPECT_EQ(parse_duration("5400", "max_time"), 5400);
  EXPECT_EQ(parse_duration("90:05", "max_time"), 5405);
  EXPECT_EQ(parse_duration("24:00:01", "max_time"), 86401);
}

TEST(Duration, OfAnythingElseIsRefused) {
  for (const char* text : {"", ":", "1:", ":1", "1:60", "1:2:3:4", "-1", "1:-1", "1h", "1.5", "99999999999999999999"})
    EXPECT_THROW(parse_duration(text, "max_time"), UsageError) << text;
}

TEST(TimeLimit, IsNearWhenAStepAndASaveMayNotFit) {
  ::unsetenv("SLURM_JOB_END_TIME");
  EXPECT_FALSE(TimeLimit(0).is_near());
  TimeLimit limit(1000);
  EXPECT_FALSE(limit.is_near());
  limit.add_step(300);
  EXPECT_FALSE(limit.is_near());
  limit.add_save(500);
  EXPECT_TRUE(limit.is_near());
}

TEST(TimeLimit, OneSlowStepIsForgotten) {
  TimeLimit limit(1000);
  limit.add_step(900);
  EXPECT_TRUE(limit.is_near());
  for (int i = 0; i < 100; ++i) limit.add_step(1);
  EXPECT_FALSE(limit.is_near());
}

TEST(TimeLimit, UsesTheBatchSystemsIfSooner) {
  const auto in = [](int seconds) { return std::to_string(std::time(nullptr) + seconds); };
  ::setenv("SLURM_JOB_END_TIME", in(5).c_str(), 1);
  EXPECT_TRUE(TimeLimit(0).is_near());
  ::setenv("SLURM_JOB_END_TIME", in(500).c_str(), 1);
  EXPECT_FALSE(TimeLimit(0).is_near());
  EXPECT_FALSE(TimeLimit(1000).is_near());
  TimeLimit limit(1000);
  limit.add_step(400);
  EXPECT_TRUE(limit.is_near());
  ::setenv("SLURM_JOB_END_TIME", "soon", 1);
  EXPECT_FALSE(TimeLimit(0).is_near());
  ::unsetenv("SLURM_JOB_END_TIME");
}

TEST(StopSignal, IsTheFirstThatComes) {
  stop_on_signals();
  EXPECT_EQ(stop_signal(), "");
  std::raise(SIGUSR1);
  EXPECT_EQ(stop_signal(), "SIGUSR1");
  std::raise(SIGTERM);
  std::raise(SIGUSR1);
  EXPECT_EQ(stop_signal(), "SIGUSR1");
}

}  // namespace
}  // namespace plumb
