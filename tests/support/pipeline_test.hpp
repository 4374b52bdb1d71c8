// Base of end-to-end tests of pipelines: a pipeline file of three short stages, and their outcomes.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/support/outcome.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {

class PipelineTest : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("pairs.jsonl", pairs(24));
    write_ini();
  }

  /// The stages have different numbers of steps, so that log lines and fault points tell them apart: step 7 is not in
  /// sft, step 9 only in dpo.
  void write_ini(const std::string& common = "", const std::string& dpo = "", const std::string& sft = "",
                 int dpo_steps = 10) const {
    directory_.write("align.ini",
                     "model = model\noutput_dir = run\nthreads = 1\nlogging_steps = 1\n"
                     "per_device_train_batch_size = 2\nlearning_rate = 0.001\n" +
                         common + "[dpo]\ndata = pairs.jsonl\nmax_steps = " + std::to_string(dpo_steps) + "\n" + dpo +
                         "[sft]\ndata = rows.jsonl\nmax_steps = 6\n" + sft +
                         "[reward]\ndata = pairs.jsonl\nmax_steps = 8\n");
  }

  RunResult pipeline(int num_ranks, const RunOptions& options = {}) const {
    return run(num_ranks, {"pipeline", "align.ini"}, options);
  }

  /// The stages that a run trained, according to its log.
  static std::vector<std::string> stages_run(const RunResult& result) {
    std::vector<std::string> names;
    for (const std::string& line : lines_with(result.err, "plumb: pipeline: stage "))
      names.push_back(line.substr(line.rfind(' ') + 1));
    return names;
  }

  std::vector<std::string> statuses() const {
    const nlohmann::json state = nlohmann::json::parse(directory_.read("run/pipeline.json"));
    std::vector<std::string> all;
    for (const nlohmann::json& stage : state.at("stages")) all.push_back(stage.at("status").get<std::string>());
    return all;
  }

  std::map<std::string, Outcome> outcomes() const { return read_outcomes(directory_ / "run"); }

  void expect_done(const RunResult& result, const std::vector<std::string>& stages) const {
    EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
    EXPECT_EQ(stages_run(result), stages) << result.err;
    EXPECT_EQ(statuses(), std::vector<std::string>(statuses().size(), "done"));
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }

  const std::vector<std::string> kAll = {"sft", "reward", "dpo"};
};

}  // namespace plumb::test
