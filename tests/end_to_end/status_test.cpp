// plumb status of runs and pipelines in every state.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

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
