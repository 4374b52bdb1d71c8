// A rank that hangs: the watchdog names it and ends the job.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kLimitSeconds = 2;

/// The content of a file in /proc.
std::string proc(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// The process id of a rank of the run whose command line contains `text`; 0 if there is none.
pid_t find_rank(int rank, const std::string& text) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (proc(entry.path() / "cmdline").find(text) == std::string::npos) continue;
    const std::string environment = '\0' + proc(entry.path() / "environ");
    const std::string wanted = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank);
    if (environment.find('\0' + wanted + '\0') != std::string::npos) return static_cast<pid_t>(std::stol(name));
  }
  return 0;
}

class WatchdogOfRuns : public ProgramTest {
 protected:
  /// Stops a rank after the first step of the run, which is identified by its output directory.
  RunResult run_and_stop(int num_ranks, int rank, Options options, const RunOptions& run_options = {}) {
    const std::string name = "hang-" + std::to_string(::getpid()) + "-" + std::to_string(rank);
    options["output_dir"] = name;
    options["max_steps"] = "100000";
    std::thread stopper([&] {
      const auto deadline = Clock::now() + std::chrono::seconds(60);
      while (!fs::exists(directory_ / (name + "/metrics.jsonl")) && Clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      const pid_t process = find_rank(rank, name);
      if (process > 0) ::kill(process, SIGSTOP);
      stopped_ = Clock::now();
    });
    RunResult result = sft(num_ranks, options, run_options);
    seconds_ = std::chrono::duration<double>(Clock::now() - stopped_).count();
    stopper.join();
    EXPECT_EQ(count_processes(name), 0) << "no process is left";
    return result;
  }

  Clock::time_point stopped_;
  double seconds_ = 0;  // from the stop to the end of the job
};

TEST_F(WatchdogOfRuns, ARankThatStopsIsNamedAndTheJobEnds) {
  const RunResult result = run_and_stop(3, 1, {{"watchdog_seconds", "2"}});
  EXPECT_FALSE(result.has_timed_out);
  EXPECT_EQ(result.exit_code, 76) << result.err << result.launcher;
  EXPECT_GT(seconds_, kLimitSeconds);  // ./dev faults measures the delay after it
  const std::vector<std::string> errors = lines_with(result.err, "error: watchdog: waits for ");
  ASSERT_EQ(errors.size(), 1u) << result.err;
  EXPECT_NE(errors[0].find("rank 1 (process "), std::string::npos) << errors[0];
  EXPECT_NE(errors[0].find("no sign of life"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[0].find("rank 0 (process "), std::string::npos) << errors[0];
  EXPECT_EQ(errors[0].find("rank 2 (process "), std::string::npos) << errors[0];
  EXPECT_GE(lines_with(result.err, "collective ").size(), 5u) << "the last operations: " << result.err;
  EXPECT_GE(lines_with(result.err, "plumb").size(), 1u);
  EXPECT_GE(lines_with(result.err, "[0x").size(), 3u) << "the stack: " << result.err;
}

TEST_F(WatchdogOfRuns, OnOtherNodesToo) {
  RunOptions options;
  options.environment = {{"PLUMB_RANKS_PER_NODE", "2"}};
  const RunResult result = run_and_stop(3, 2, {{"watchdog_seconds", "2"}}, options);
  EXPECT_EQ(result.exit_code, 76) << result.err << result.launcher;
  EXPECT_FALSE(result.has_timed_out);
  const std::vector<std::string> errors = lines_with(result.err, "error: watchdog: waits for ");
  ASSERT_EQ(errors.size(), 1u) << result.err;
  EXPECT_NE(errors[0].find("is on another node"), std::string::npos) << errors[0];
  EXPECT_EQ(errors[0].find("stopped or killed"), std::string::npos)
      << "all ranks of this node are alive: " << errors[0];
}

TEST_F(WatchdogOfRuns, WhileMpiStartsAndEndsThereIsADeadline) {
  for (const std::string point : {"start", "end"}) {
    RunOptions options;
    options.environment = {{"PLUMB_START_SECONDS", "4"}, {"PLUMB_FAULT", point + ":0:1:stop"}};
    const RunResult result = sft(2, {{"overwrite_output_dir", "true"}}, options);
    EXPECT_FALSE(result.has_timed_out) << point;
    EXPECT_EQ(result.exit_code, 76) << result.err << result.launcher;
    EXPECT_GE(lines_with(result.err, "another rank hangs").size(), 1u) << result.err;
  }
}

TEST_F(WatchdogOfRuns, TheLimitHoldsUntilMpiHasEnded) {
  RunOptions options;
  options.environment = {{"PLUMB_FAULT", "end:0:1:stop"}};
  const RunResult result = sft(2, {{"watchdog_seconds", "2"}}, options);
  EXPECT_FALSE(result.has_timed_out);
  EXPECT_EQ(result.exit_code, 76) << result.err << result.launcher;
  EXPECT_GE(lines_with(result.err, "(--watchdog_seconds): another rank hangs").size(), 1u) << result.err;
}

TEST_F(WatchdogOfRuns, StepsLongerThanTheLimitInTotalAreNoHang) {
  const RunResult result = sft(
      2,
      {{"watchdog_seconds", std::to_string(kLimitSeconds * kPatience)}, {"max_steps", "600"}, {"logging_steps", "50"}});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(lines_with(result.err, "watchdog").size(), 0u) << result.err;
}

}  // namespace
}  // namespace plumb::test
