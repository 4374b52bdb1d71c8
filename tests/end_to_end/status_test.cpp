// plumb status of runs and pipelines in every state.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/commands/watch.hpp"
#include "io/run/lock.hpp"
#include "io/run/status.hpp"
#include "tests/support/pipeline_test.hpp"

namespace plumb::test {
namespace {

class StatusOfRuns : public PipelineTest {
 protected:
  RunResult status(const std::string& directory) const { return run(0, {"status", directory}); }
  nlohmann::json status_json(const std::string& directory) const {
    return nlohmann::json::parse(run(0, {"status", directory, "--json"}).out);
  }
  /// The status of a finished or running run.
  void write_status(RunStatus status) const {
    std::filesystem::create_directories(directory_ / "out");
    status.command = "sft";
    directory_.write("out/status.json", to_json(status).dump());
  }
  void expect(int exit_code, const std::string& text) const {
    const RunResult result = status("out");
    EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
    EXPECT_NE(result.out.find(text), std::string::npos) << result.out << result.err;
  }
};

TEST_F(StatusOfRuns, DoneAndFailed) {
  EXPECT_EQ(sft(2).exit_code, 0);
  expect(0, "sft: done, step 2 of 2, loss ");
  const nlohmann::json json = status_json("out");
  EXPECT_EQ(json.at("standing"), "done");
  EXPECT_EQ(json.at("step"), 2);
  EXPECT_EQ(json.at("ranks"), 2);
  EXPECT_GT(json.at("memory_bytes").get<int64_t>(), 0);
  directory_.write("bad.jsonl", "{\"prompt\": 1}\n");
  EXPECT_EQ(sft(2, {{"data", "bad.jsonl"}, {"overwrite_output_dir", "true"}}).exit_code, 65);
  expect(70, "sft: failed");
}

TEST_F(StatusOfRuns, RunningSilentAndKilled) {
  RunStatus status_now{
      .step = 3, .num_steps = 9, .step_seconds = 1, .heartbeat = wall_seconds(), .process = this_process()};
  status_now.step_time = wall_seconds();
  {
    const RunLock lock(directory_ / "out");
    write_status(status_now);
    expect(0, "sft: running, step 3 of 9");
    status_now.step_time -= 3600;
    write_status(status_now);
    expect(0, "(overdue)");
    status_now.heartbeat -= 3600;
    write_status(status_now);
    expect(75, "sft: silent");
  }
  expect(75, "sft: killed");
}

/// A run that is under way, with curves.
RunStatus running() {
  RunStatus status{.command = "sft",
                   .step = 30,
                   .num_steps = 100,
                   .loss = 1.5,
                   .step_seconds = 2,
                   .seconds_left = 140,
                   .heartbeat = wall_seconds(),
                   .process = this_process()};
  status.step_time = wall_seconds();
  status.slow_ranks = "step 25: slow for 20 steps in a row: rank 3 (1.5 times as slow as the fastest)";
  return status;
}

TEST_F(StatusOfRuns, OnAScreenWithCurves) {
  const RunLock lock(directory_ / "out");
  write_status(running());
  directory_.write("out/run.json", R"({"command": "sft", "num_steps": 100, "options": {"save_steps": "40"}})");
  std::string lines;
  for (int step = 1; step <= 30; ++step)
    lines += nlohmann::json{{"step", step}, {"loss", 3.0 / step}, {"grad_norm", 1.0 + step}}.dump() + "\n";
  directory_.write("out/metrics.jsonl", lines);
  const std::string screen = render_screen(directory_ / "out", {.num_columns = 70, .num_rows = 30});
  for (const char* part : {"sft: running, step 30 of 100, loss 1.5000", "next checkpoint: step 40, in 0:20",
                           "slow ranks: step 25: slow for 20", "\nLoss 0.1\n", "\nGrad norm 31\n"})
    EXPECT_NE(screen.find(part), std::string::npos) << part << " in\n" << screen;
  for (const int rows : {1, 5, 9, 12, 30, 100}) {
    const std::string small =
        render_screen(directory_ / "out", {.num_columns = 20, .num_rows = rows, .has_braille = false});
    EXPECT_LT(std::count(small.begin(), small.end(), '\n'), rows) << small;
    for (size_t begin = 0; begin < small.size();) {
      const size_t end = std::min(small.find('\n', begin), small.size());
      EXPECT_LE(end - begin, 20u) << small;
      begin = end + 1;
    }
  }
  const RunResult refused = run(0, {"status", "out", "--watch"});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("expected a terminal"), std::string::npos) << refused.err;
}

TEST_F(StatusOfRuns, OfASweep) {
  const RunLock lock(directory_ / "out");
  write_status(running());
  RunStatus done{.command = "sft", .state = "done", .step = 9, .num_steps = 9};
  for (const char* name : {"runs/seed-1", "runs/seed-2"}) {
    std::filesystem::create_directories(directory_ / name);
    directory_.write(name + std::string("/status.json"), to_json(done).dump());
  }
  EXPECT_EQ(status("runs").out,
            "2 runs: 2 done\nseed-1: done, step 9 of 9, loss 0.0000, 0 tokens/s\n"
            "seed-2: done, step 9 of 9, loss 0.0000, 0 tokens/s\n");
  done.state = "failed";
  directory_.write("runs/seed-2/status.json", to_json(done).dump());
  EXPECT_EQ(status("runs").exit_code, 70);
  EXPECT_EQ(status_json("runs").at("runs").at(0).at("run").at("standing"), "done");
}

/// In a terminal of its own: script(1) makes one.
TEST_F(StatusOfRuns, WatchedInATerminalUntilTheRunEnds) {
  RunStatus status_now = running();
  std::optional<RunLock> lock(std::in_place, directory_ / "out");
  write_status(status_now);
  RunOptions options;
  options.working_directory = directory_.path();
  options.acts = {{.delay_seconds = 4, .act = [&](pid_t) {
                     status_now.state = "done";
                     write_status(status_now);
                   }}};
  const RunResult result = run_program(
      {"script", "-qec", "stty cols 60 rows 20; " PLUMB_PROGRAM " status out --watch", "/dev/null"}, options);
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  for (const char* part : {"\x1b[?1049h", "sft: running, step 30 of 100", "\x1b[?1049l", "sft: done"})
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in " << result.out;
}

TEST_F(StatusOfRuns, OfNoRunAndOfCorruptFiles) {
  EXPECT_EQ(status("none").exit_code, 74);
  std::filesystem::create_directories(directory_ / "out");
  EXPECT_EQ(status("out").exit_code, 74);
  directory_.write("out/status.json", "{");
  EXPECT_EQ(status("out").exit_code, 65);
  EXPECT_EQ(run(0, {"status"}).exit_code, 2);
}

TEST_F(StatusOfRuns, OfAPipelineInEveryStage) {
  RunOptions options;
  options.environment["PLUMB_FAULT"] = "step:3:0:usr1";
  const RunResult stopped = pipeline(2, options);
  EXPECT_EQ(stopped.exit_code, 85) << stopped.err << stopped.launcher;
  const RunResult result = status("run");
  EXPECT_EQ(result.exit_code, 75) << result.out;
  EXPECT_NE(result.out.find("pipeline: stopped\nsft: stopped, step 4 of 6"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("reward: pending\n"), std::string::npos) << result.out;
  expect_done(pipeline(2), kAll);
  EXPECT_EQ(status("run").exit_code, 0);
  const nlohmann::json json = status_json("run");
  EXPECT_EQ(json.at("standing"), "done");
  EXPECT_EQ(json.at("stages").size(), 3u);
}

}  // namespace
}  // namespace plumb::test
