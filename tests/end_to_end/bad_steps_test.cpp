// Steps with a non-finite loss or gradient, or a spike: all ranks skip them and name their rows; the third in a row
// stops the run or rolls it back.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

class BadSteps : public ResumeTest {
 protected:
  RunResult dpo(int num_ranks, const std::string& fault, const std::string& on_bad_steps) const {
    RunOptions options;
    options.environment["PLUMB_FAULT"] = fault;
    return train("dpo", num_ranks,
                 {{"max_steps", "5"},
                  {"per_device_train_batch_size", "2"},
                  {"shuffle", "false"},
                  {"on_bad_steps", on_bad_steps},
                  {"overwrite_output_dir", "true"}},
                 options);
  }

  /// PLUMB_FAULT for the pairs of rank 0 in these steps.
  static std::string bad(int first_step, int last_step) {
    std::string faults;
    for (int step = first_step; step <= last_step; ++step) faults += "data:" + std::to_string(step) + ":0:nan;";
    return faults;
  }
  double eval_loss_after(int step) const {
    for (const nlohmann::json& line : metrics("eval_loss"))
      if (line.at("step") == step) return line.at("eval_loss");
    ADD_FAILURE() << "no evaluation after step " << step;
    return 0;
  }

  const Options rollback_ = {{"max_steps", "12"}, {"on_bad_steps", "rollback"}, {"save_total_limit", "1"}};
};

TEST_F(BadSteps, OneIsSkippedByAllRanksAndItsRowsAreNamed) {
  const RunResult result = dpo(3, "data:2:1:nan", "skip");
  EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
  EXPECT_EQ(lines_with(result.err, "step 2 is skipped").size(), 1u) << result.err;
  const std::vector<nlohmann::json> skipped = metrics("skipped_rows");
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_EQ(skipped[0].at("step"), 2);
  EXPECT_EQ(skipped[0].at("skipped_rows"), nlohmann::json({6, 7, 8, 9, 10, 11}));
  const std::vector<nlohmann::json> logged = metrics("loss");
  EXPECT_EQ(logged.size(), 4u);
  for (const nlohmann::json& line : logged) EXPECT_TRUE(line.at("loss").is_number()) << line;
}

TEST_F(BadSteps, ByDefaultTheFirstEndsTheRun) {
  expect_refused(dpo(2, "data:2:1:nan", "stop"), 70, {"step 2", "not finite"});
  EXPECT_EQ(metrics("skipped_rows").size(), 1u);
}

TEST_F(BadSteps, TheThirdInARowEndsTheRun) {
  expect_refused(dpo(2, "data:2:0:nan;data:3:1:nan;data:4:0:nan", "skip"), 70, {"step 4", "not finite"});
  EXPECT_EQ(metrics("skipped_rows").size(), 3u);
  const RunResult result = dpo(2, "data:1:0:nan;data:2:1:nan;data:4:0:nan", "skip");
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(BadSteps, AfterTheThirdTheRunRollsBackAndSkipsTheirRows) {
  Options options = rollback_;
  options["output_dir"] = "golden";
  const RunResult undisturbed = start("dpo", 1, options, bad(6, 8));
  EXPECT_EQ(undisturbed.exit_code, 0) << undisturbed.err;
  // killed within the bad steps, whose checkpoint must not become the rollback target, and after the rollback
  expect_died(start("dpo", 4, rollback_, bad(6, 8) + "step:7:3:kill"));
  EXPECT_EQ(checkpoints(), (std::vector<std::string>{"step-000004", "step-000006"}));
  expect_died(start("dpo", 2, rollback_, bad(6, 8) + "step:9:0:kill"));
  expect_completed(start("dpo", 3, rollback_), 8);
  EXPECT_EQ(outcome(), outcome("golden"));
  const std::vector<nlohmann::json> back = metrics("rolled_back_to");
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].at("step"), 8);
  EXPECT_EQ(back[0].at("rolled_back_to"), 4);
  EXPECT_NE(eval_loss_after(6), eval_loss_after(4));
  EXPECT_EQ(eval_loss_after(8), eval_loss_after(4));
  EXPECT_NE(eval_loss_after(10), eval_loss_after(4));
}

TEST_F(BadSteps, RollbacksThatDoNotHelpEndTheRun) {
  Options options = rollback_;
  options["max_steps"] = "30";
  expect_refused(start("dpo", 2, options, bad(5, 30)), 70, {"step 16", "after 3 rollbacks to step 4"});
  EXPECT_EQ(metrics("rolled_back_to").size(), 3u);
  options["overwrite_output_dir"] = "true";
  expect_refused(start("dpo", 2, options, bad(1, 3)), 70, {"step 3", "no earlier checkpoint"});
}

TEST_F(BadSteps, ASpikeIsFoundAlsoAfterARestart) {
  const Options options = {{"max_steps", "26"}, {"on_bad_steps", "skip"}, {"spike_threshold", "6"}};
  const std::string spike = "data:24:0:spike";
  const auto run = [&](const std::string& output_dir, const std::string& fault, Options with) {
    with.insert(options.begin(), options.end());
    with["output_dir"] = output_dir;
    with["save_steps"] = "10";
    return start("dpo", 2, with, fault);
  };
  expect_died(run("out", spike + ";step:23:1:kill", {}));
  expect_completed(run("out", spike, {}), 20);
  EXPECT_EQ(run("golden", spike, {}).exit_code, 0);
  EXPECT_EQ(outcome(), outcome("golden"));
  const std::vector<nlohmann::json> skipped = metrics("skipped_rows");
  ASSERT_EQ(skipped.size(), 1u);
  EXPECT_EQ(skipped[0].at("step"), 24);
  EXPECT_NE(skipped[0].at("skipped_because").dump().find("standard deviations"), std::string::npos);
  EXPECT_EQ(run("blind", spike, {{"spike_threshold", "0"}}).exit_code, 0);
  EXPECT_EQ(metrics("skipped_rows", "blind").size(), 0u);
}

TEST_F(BadSteps, RollbackNeedsCheckpoints) {
  expect_refused(start("dpo", 1, {{"on_bad_steps", "rollback"}, {"save_steps", "0"}}), 2, {"save_steps"});
  expect_refused(start("dpo", 1, {{"on_bad_steps", "ignore"}}), 2, {"one of stop, skip, rollback"});
}

}  // namespace
}  // namespace plumb::test
