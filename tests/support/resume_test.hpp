// Base of end-to-end tests of checkpoints: a run of six steps with an injected fault, and the outcome of an undisturbed
// run, which it must equal.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/outcome.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {

/// Every global batch has 24 micro-batches of one row; two steps per epoch; a checkpoint after every second step.
/// Metrics are logged every four steps, so that some checkpoints fall between two log lines.
class ResumeTest : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("eval.jsonl", rows(7));
    directory_.write("eval_pairs.jsonl", pairs(7));
  }

  /// fault: POINT:STEP:RANK:ACTION, see lib/base/fault.hpp; empty for none.
  RunResult start(const std::string& stage, int num_ranks, const Options& options = {},
                  const std::string& fault = "") const {
    RunOptions run_with;
    if (!fault.empty()) run_with.environment["PLUMB_FAULT"] = fault;
    return train(stage, num_ranks, run_options(stage, num_ranks, options), run_with);
  }

  /// The options common to all runs of these tests, plus the given ones.
  static Options run_options(const std::string& stage, int num_ranks, Options options = {}) {
    options.insert({{"per_device_train_batch_size", "1"},
                    {"gradient_accumulation_steps", std::to_string(24 / num_ranks)},
                    {"max_steps", "6"},
                    {"logging_steps", "4"},
                    {"save_steps", "2"},
                    {"learning_rate", "0.001"},
                    {"weight_decay", "0.1"},
                    {"max_grad_norm", "0.5"},
                    {"eval_data", stage == "sft" ? "eval.jsonl" : "eval_pairs.jsonl"},
                    {"per_device_eval_batch_size", "1"}});
    return options;
  }

  /// The outcome of a run that has ended.
  Outcome outcome(const std::string& output_dir = "out") const { return read_outcome(directory_ / output_dir); }

  /// The outcome of an undisturbed run on one rank, executed once per stage and options.
  const Outcome& undisturbed(const std::string& stage, Options options = {}) const {
    std::string key = stage;
    for (const auto& [name, value] : options) key += " --" + name + " " + value;
    const auto [made, is_new] = undisturbed_.try_emplace(key);
    if (!is_new) return made->second;
    options["output_dir"] = "undisturbed";
    options["save_steps"] = "0";
    const RunResult result = start(stage, 1, options);
    EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
    EXPECT_TRUE(std::filesystem::is_empty(directory_ / "undisturbed/checkpoints"));
    made->second = outcome("undisturbed");
    EXPECT_EQ(made->second.metrics.size(), 6u);  // steps 1, 4, 6; evaluations after 2, 4, 6
    EXPECT_FALSE(made->second.weights.empty());
    return made->second;
  }

  static void expect_died(const RunResult& result) {
    EXPECT_NE(result.exit_code, 0) << "the fault point was not reached: " << result.err;
    EXPECT_FALSE(result.has_timed_out);
  }

  /// Expects that the run is complete, resumed after this step (0: started from scratch), and left no partial output.
  void expect_completed(const RunResult& result, int after_step) const {
    EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
    const std::vector<std::string> lines = lines_with(result.err, "resuming after step ");
    if (after_step == 0) {
      EXPECT_TRUE(lines.empty()) << result.err;
    } else {
      ASSERT_EQ(lines.size(), 1u) << result.err;
      EXPECT_NE(lines[0].find("step " + std::to_string(after_step) + " from "), std::string::npos) << lines[0];
    }
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }

  std::vector<std::string> checkpoints() const {
    std::vector<std::string> names;
    if (!exists("out/checkpoints")) return names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / "out/checkpoints"))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  static inline std::map<std::string, Outcome> undisturbed_;
};

}  // namespace plumb::test
