// Pipelines that were killed, interrupted or given bad data, and are restarted with the same command.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/pipeline_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

using PipelineRestart = PipelineTest;
using SurvivesAnyKillOfAPipeline = PipelineTest;

TEST_F(SurvivesAnyKillOfAPipeline, InAnyStage) {
  expect_done(pipeline(2), kAll);
  const auto undisturbed = outcomes();
  fs::remove_all(directory_ / "run");
  const std::vector<std::string> after = {"step 3/60 ", "step 3/61 ", "step 3/62 "};
  for (size_t stage = 0; stage < 3; ++stage) {
    RunOptions options;
    options.kill_ranks_after = after[stage];
    const RunResult killed = pipeline(2, options);
    EXPECT_NE(killed.exit_code, 0);
    EXPECT_FALSE(killed.has_timed_out);
    EXPECT_EQ(statuses()[stage], "running") << "the kill came too late: " << killed.err;
    for (size_t done = 0; done < stage; ++done) EXPECT_EQ(statuses()[done], "done");
    EXPECT_EQ(stages_run(killed).size(), stage == 0 ? 1u : 2u) << killed.err;
  }
  const RunResult last = pipeline(2);
  expect_done(last, {"dpo"});
  EXPECT_EQ(lines_with(last.err, "dpo runs: it was started and not finished").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "holds these rows already").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;
  EXPECT_EQ(outcomes(), undisturbed);
}

TEST_F(SurvivesAnyKillOfAPipeline, InAStageWithCheckpointsOnOtherRanks) {
  write_ini("gradient_accumulation_steps = 2\n");
  expect_done(pipeline(3), kAll);
  const auto undisturbed = outcomes();
  fs::remove_all(directory_ / "run");
  write_ini("save_steps = 10\ngradient_accumulation_steps = 2\n");
  RunOptions options;
  options.kill_ranks_after = "step 23/61 ";
  EXPECT_NE(pipeline(3, options).exit_code, 0);
  EXPECT_EQ(statuses()[1], "running");
  write_ini("save_steps = 20\ngradient_accumulation_steps = 3\n");
  const RunResult last = pipeline(2);
  expect_done(last, {"reward", "dpo"});
  const std::vector<std::string> resumed = lines_with(last.err, "resuming after step ");
  ASSERT_EQ(resumed.size(), 1u) << last.err;
  EXPECT_NE(resumed[0].find("run/reward/checkpoints/step-0000"), std::string::npos);
  EXPECT_EQ(outcomes(), undisturbed);
}

TEST_F(SurvivesAnyKillOfAPipeline, BetweenStagesOnOtherRanks) {
  write_ini("gradient_accumulation_steps = 3\n");
  expect_done(pipeline(1), kAll);
  const auto undisturbed = outcomes();
  fs::remove_all(directory_ / "run");
  RunOptions options;
  options.kill_ranks_after = "stage 2 of 3";
  EXPECT_NE(pipeline(1, options).exit_code, 0);
  write_ini("gradient_accumulation_steps = 1\n");
  expect_done(pipeline(3), {"reward", "dpo"});
  EXPECT_EQ(outcomes(), undisturbed);
}

TEST_F(SurvivesAnyKillOfAPipeline, BeforeLaterStagesOnOtherRanks) {
  write_ini("gradient_accumulation_steps = 2\n");
  expect_done(pipeline(3), kAll);
  const auto undisturbed = outcomes();
  fs::remove_all(directory_ / "run");
  RunOptions options;
  options.kill_ranks_after = "step 3/60 ";
  EXPECT_NE(pipeline(3, options).exit_code, 0);
  options.kill_ranks_after = "stage 2 of 3";
  EXPECT_NE(pipeline(2, options).exit_code, 0);
  expect_done(pipeline(1), {"reward", "dpo"});
  EXPECT_EQ(outcomes(), undisturbed);
}

TEST_F(SurvivesAnyKillOfAPipeline, WithBadStepsABitFlipAndTheBestModel) {
  const auto write_for = [this](int num_ranks) {
    write_ini("save_steps = 10\nmemory_check_steps = 1\ngradient_accumulation_steps = " +
                  std::to_string(6 / num_ranks) + "\n",
              "on_bad_steps = rollback\nspike_threshold = 6\neval_data = pairs.jsonl\neval_steps = 5\n"
              "load_best_model_at_end = true\nmetric_for_best_model = loss\ngreater_is_better = true\n");
  };
  RunOptions bad;  // faults on rank 0, which exists for every number of ranks
  bad.environment["PLUMB_FAULT"] = "batch:34:0:nan;batch:35:0:nan;batch:36:0:nan";
  bad.timeout_seconds = 400;  // 183 steps with evaluations and checkpoints, of three ranks that may share a core
  write_for(3);
  expect_done(pipeline(3, bad), kAll);
  const auto undisturbed = outcomes();
  fs::remove_all(directory_ / "run");
  write_for(2);
  RunOptions lost_bit;
  lost_bit.timeout_seconds = bad.timeout_seconds;
  lost_bit.environment["PLUMB_FAULT"] = "memory:25:1:flip";
  const RunResult stopped = pipeline(2, lost_bit);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
  write_for(3);
  RunOptions killed = bad;
  killed.kill_ranks_after = "step 38/62 ";
  EXPECT_NE(pipeline(3, killed).exit_code, 0);
  EXPECT_EQ(statuses().back(), "running");
  write_for(1);
  const RunResult last = pipeline(1, bad);
  expect_done(last, {"dpo"});
  EXPECT_EQ(lines_with(last.err, "the best model is that after step 10").size(), 1u) << last.err;
  EXPECT_EQ(metrics("rolled_back_to", "run/dpo").front().at("step"), 36);
  EXPECT_EQ(outcomes(), undisturbed);
}

TEST_F(PipelineRestart, ARestartRemovesTemporaryFiles) {
  // more steps than two ranks complete before mpirun forwards the interrupt
  std::string ini = directory_.read("align.ini");
  for (const char* steps : {"= 60", "= 61", "= 62"}) ini.replace(ini.find(steps), 4, "= 800");
  directory_.write("align.ini", ini);
  for (const char* text : {"step 2/800 ", "stage 2 of 3", "stage 3 of 3"}) {
    RunOptions options;
    options.interrupt_after = text;
    const RunResult interrupted = pipeline(2, options);
    EXPECT_NE(interrupted.exit_code, 0) << text;
    EXPECT_FALSE(interrupted.has_timed_out) << text;
  }
  // temporary files of a process that is killed while writing
  fs::create_directories(directory_ / "run/dpo/model.tmp-abcdef");
  directory_.write("run/dpo/run.json.tmp-1", "{");
  directory_.write("run/pipeline.json.tmp-1", "{");
  const RunResult last = pipeline(1);
  expect_done(last, {"dpo"});
}

TEST_F(PipelineRestart, AFailedStageRunsAgainOnceItsDataAreCorrected) {
  directory_.write("bad.jsonl", pairs(3) + "{\"prompt\": 1}\n");
  write_ini();
  std::string ini = directory_.read("align.ini");
  ini.replace(ini.rfind("pairs.jsonl"), 11, "bad.jsonl");
  directory_.write("align.ini", ini);
  const RunResult failed = pipeline(2);
  EXPECT_EQ(failed.exit_code, 65) << failed.err;
  EXPECT_EQ(lines_with(failed.err, "error: ").size(), 1u) << failed.err;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"done", "failed", "pending"}));
  EXPECT_NE(directory_.read("run/report.html").find(">failed<"), std::string::npos);
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  EXPECT_EQ(stages_run(pipeline(2)), std::vector<std::string>{"reward"});  // still bad
  directory_.write("bad.jsonl", pairs(8));
  expect_done(pipeline(2), {"reward", "dpo"});
}

}  // namespace
}  // namespace plumb::test
