// Runs that are asked to stop, by a signal to a rank or to the launcher or by --max_time: they save a checkpoint and
// resume to the same bits.
#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

class Stop : public ResumeTest {
 protected:
  std::string state() const {
    return nlohmann::json::parse(directory_.read("out/status.json")).at("state").get<std::string>();
  }
};

TEST_F(Stop, ASignalToOneRankStopsAllWithACheckpoint) {
  for (const std::string signal : {"usr1", "term"}) {
    // the rank that got the signal reports it in the next step
    const RunResult stopped = start("sft", 3, {{"save_steps", "100"}, {"output_dir", "out"}}, "step:2:1:" + signal);
    EXPECT_EQ(stopped.exit_code, 85) << stopped.err << stopped.launcher;
    EXPECT_EQ(lines_with(stopped.err, "stopped after step 3 ").size(), 1u) << stopped.err;
    EXPECT_EQ(lines_with(stopped.err, "error").size(), 0u) << stopped.err;
    EXPECT_EQ(checkpoints(), std::vector<std::string>{"step-000003"});
    EXPECT_EQ(state(), "stopped");
    EXPECT_FALSE(exists("out/job.lock"));
    expect_completed(start("sft", 2), 3);
    EXPECT_EQ(state(), "done");
    EXPECT_EQ(outcome(), undisturbed("sft"));
    std::filesystem::remove_all(directory_ / "out");
  }
}

TEST_F(Stop, ASignalWhileMpiStartsStopsTheRun) {
  const RunResult stopped = start("sft", 2, {}, "start:0:1:usr1");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err << stopped.launcher;
  EXPECT_EQ(lines_with(stopped.err, "before the first step").size(), 1u) << stopped.err;
}

TEST_F(Stop, ASignalInTheLastStepChangesNothing) {
  const RunResult result = start("sft", 2, {}, "step:5:0:usr1");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(state(), "done");
}

TEST_F(Stop, TheLaunchersSignalReachesTheRanks) {
  RunOptions options;
  options.interrupt_after = "step 3/";
  options.interrupt_signal = SIGUSR1;
  const RunResult stopped = sft(2, {{"max_steps", "100000"}, {"logging_steps", "1"}, {"save_steps", "0"}}, options);
  EXPECT_EQ(stopped.exit_code, 85) << stopped.err << stopped.launcher;
  EXPECT_EQ(checkpoints().size(), 1u);
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
}

TEST_F(Stop, ARunStopsInTime) {
  const RunResult stopped =
      sft(2, {{"max_steps", "100000"}, {"logging_steps", "100"}, {"save_steps", "0"}, {"max_time", "0:07"}});
  EXPECT_EQ(stopped.exit_code, 85) << stopped.err << stopped.launcher;
  EXPECT_EQ(lines_with(stopped.err, "because its time is nearly over").size(), 1u) << stopped.err;
  EXPECT_EQ(checkpoints().size(), 1u);
}

TEST_F(Stop, AFailedSaveAtAStopIsTransient) {
  const RunResult stopped = start("sft", 2, {}, "step:2:1:usr1;checkpoint-synced:3:0:error");
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err << stopped.launcher;
  EXPECT_EQ(lines_with(stopped.err, "no checkpoint of it was saved").size(), 1u) << stopped.err;
}

TEST_F(Stop, InvalidTimesAreRefused) {
  expect_refused(sft(1, {{"max_time", "1h"}}), 2, {"--max_time", "1h"});
  expect_refused(sft(1, {{"watchdog_seconds", "-1"}}), 2, {"--watchdog_seconds", "-1"});
}

}  // namespace
}  // namespace plumb::test
