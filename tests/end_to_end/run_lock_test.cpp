// Two jobs on one directory: the second one is refused.
#include "io/run/lock.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/pipeline_test.hpp"

namespace plumb::test {
namespace {

class RunLockOfRuns : public PipelineTest {};

TEST_F(RunLockOfRuns, AStageIsRefusedWhileAnotherJobWritesThere) {
  std::optional<RunLock> other(directory_ / "out");
  expect_refused(sft(2), 2, {"--output_dir out", "process " + std::to_string(::getpid())});
  EXPECT_FALSE(exists("out/run.json"));
  EXPECT_TRUE(exists("out/job.lock"));
  other.reset();
  const RunResult result = sft(2);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_FALSE(exists("out/job.lock"));
}

TEST_F(RunLockOfRuns, ARunThatFailsReleasesIt) {
  directory_.write("bad.jsonl", "{\"prompt\": 1}\n");
  expect_refused(sft(2, {{"data", "bad.jsonl"}}), 65, {"bad.jsonl"});
  EXPECT_TRUE(exists("out"));
  EXPECT_FALSE(exists("out/job.lock"));
}

TEST_F(RunLockOfRuns, APipelineIsRefusedWhileAnotherJobWritesThere) {
  const RunLock other(directory_ / "run");
  expect_refused(pipeline(2), 2, {"--output_dir run", "process " + std::to_string(::getpid())});
  EXPECT_FALSE(exists("run/pipeline.json"));
}

TEST_F(RunLockOfRuns, TheLockOfAKilledJobIsReplaced) {
  RunOptions options;
  options.kill_ranks_after = "step 3/";
  EXPECT_NE(sft(2, {{"max_steps", "500"}}, options).exit_code, 0);
  EXPECT_TRUE(exists("out/job.lock"));
  const RunResult result = sft(2, {{"overwrite_output_dir", "true"}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(lines_with(result.err, "taken over from process").size(), 1u) << result.err;
}

TEST_F(RunLockOfRuns, TemporaryFilesOfAKilledLauncherAreRemoved) {
  const auto sessions = [this] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "tmp"))
      if (entry.path().filename().string().starts_with("pid.")) names.push_back(entry.path().filename().string());
    return names;
  };
  RunOptions options;
  options.environment["PLUMB_FAULT"] = "start:0:1:wait";
  std::string session;
  options.acts.push_back({.after = "fault: start", .act = [&](pid_t launcher) {
                            session = "pid." + std::to_string(launcher);
                            const std::vector<pid_t> ranks = children_of(launcher);
                            ::kill(launcher, SIGKILL);
                            for (const pid_t rank : ranks) ::kill(rank, SIGKILL);
                          }});
  EXPECT_EQ(sft(2, {}, options).exit_code, 128 + SIGKILL);
  EXPECT_FALSE(exists("out/job.lock"));
  EXPECT_EQ(sessions(), std::vector<std::string>{session});
  const RunResult result = sft(2);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(sessions(), std::vector<std::string>());
}

}  // namespace
}  // namespace plumb::test
