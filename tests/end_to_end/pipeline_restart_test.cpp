// Pipelines that were killed, interrupted or given bad data, and are restarted with the same command.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/pipeline_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

using PipelineRestart = PipelineTest;

class SurvivesAnyKillOfAPipeline : public PipelineTest {
 protected:
  /// Every step has twelve rows, on 1, 2, 3 or 6 ranks.
  void write_for(int num_ranks, const std::string& common = "") const {
    write_ini("gradient_accumulation_steps = " + std::to_string(6 / num_ranks) + "\n" + common);
  }

  /// The outcome of an undisturbed run on one rank, executed once.
  std::map<std::string, Outcome> undisturbed() const {
    static std::map<std::string, Outcome> made;
    if (!made.empty()) return made;
    write_for(1);
    expect_done(pipeline(1), kAll);
    made = outcomes();
    fs::remove_all(directory_ / "run");
    return made;
  }

  /// Kills all ranks at a fault point: POINT:STEP:RANK. faults: others before it.
  RunResult killed(int num_ranks, const std::string& point, const std::string& faults = "") const {
    RunOptions options;
    options.environment["PLUMB_FAULT"] = faults + point + ":wait";
    options.kill_ranks_after = " fault: " + point;
    RunResult result = pipeline(num_ranks, options);
    EXPECT_NE(result.exit_code, 0) << "the fault point was not reached: " << result.err;
    EXPECT_FALSE(result.has_timed_out);
    return result;
  }
};

TEST_F(SurvivesAnyKillOfAPipeline, InAnyStage) {
  const auto expected = undisturbed();
  write_for(2);
  const std::vector<std::string> points = {"step:3:0", "step:7:1", "step:9:0"};
  for (size_t stage = 0; stage < 3; ++stage) {
    const RunResult result = killed(2, points[stage]);
    EXPECT_EQ(statuses()[stage], "running") << result.err;
    for (size_t done = 0; done < stage; ++done) EXPECT_EQ(statuses()[done], "done");
    EXPECT_EQ(stages_run(result).size(), stage == 0 ? 1u : 2u) << result.err;
  }
  const RunResult last = pipeline(2);
  expect_done(last, {"dpo"});
  EXPECT_EQ(lines_with(last.err, "dpo runs: it was started and not finished").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "holds these rows already").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(SurvivesAnyKillOfAPipeline, InAStageWithCheckpointsOnOtherRanks) {
  const auto expected = undisturbed();
  write_for(3, "save_steps = 2\n");
  killed(3, "step:7:1");
  EXPECT_EQ(statuses()[1], "running");
  write_for(2, "save_steps = 3\n");
  const RunResult last = pipeline(2);
  expect_done(last, {"reward", "dpo"});
  const std::vector<std::string> resumed = lines_with(last.err, "resuming after step ");
  ASSERT_EQ(resumed.size(), 1u) << last.err;
  EXPECT_NE(resumed[0].find("run/reward/checkpoints/step-0000"), std::string::npos);
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(SurvivesAnyKillOfAPipeline, BetweenStagesOnOtherRanks) {
  const auto expected = undisturbed();
  write_for(1);
  killed(1, "stage-recorded:1:0");
  EXPECT_EQ(statuses(), (std::vector<std::string>{"done", "pending", "pending"}));
  write_for(3);
  expect_done(pipeline(3), {"reward", "dpo"});
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(SurvivesAnyKillOfAPipeline, BeforeLaterStagesOnOtherRanks) {
  const auto expected = undisturbed();
  write_for(3);  // what follows has the same file on fewer ranks
  killed(3, "step:3:0");
  killed(2, "stage-recorded:1:0");
  expect_done(pipeline(1), {"reward", "dpo"});
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(SurvivesAnyKillOfAPipeline, InsideARoundOfItsPolicy) {
  const auto write_for_policy = [this](int num_ranks) {
    const std::string accumulation = std::to_string(6 / num_ranks), both = std::to_string(12 / num_ranks);
    directory_.write("align.ini",
                     "model = model\noutput_dir = run\nthreads = 1\nlogging_steps = 1\nlearning_rate = 0.001\n"
                     "per_device_train_batch_size = 2\nstartup_checks = false\nsave_steps = 1\n"
                     "gradient_accumulation_steps = " +
                         accumulation +
                         "\n[sft]\ndata = rows.jsonl\nmax_steps = 2\n[grpo]\ndata = rows.jsonl\nmax_steps = 5\n"
                         "num_generations = 4\nmax_completion_length = 8\nsteps_per_generation = " +
                         both +
                         "\nreward_funcs = count program\ncount_text = e\n"
                         "reward_program = sed -u 's/.*\"num_tokens\":\\([0-9]*\\).*/\\1/'\n");
  };
  write_for_policy(1);
  expect_done(pipeline(1), {"sft", "grpo"});
  const auto expected = outcomes();
  const std::string round = directory_.read("run/grpo/rollouts/round-000001.jsonl");
  const auto first = nlohmann::json::parse(round.substr(0, round.find('\n')));
  EXPECT_EQ(first["rewards"][1], first["completion_ids"].size());  // as the program answers
  fs::remove_all(directory_ / "run");
  write_for_policy(3);
  killed(3, "backward:4:1");
  write_for_policy(2);
  expect_done(pipeline(2), {"grpo"});
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(SurvivesAnyKillOfAPipeline, WithBadStepsABitFlipAndTheBestModel) {
  const auto write_with_faults = [this](int num_ranks) {
    write_ini(
        "save_steps = 4\nmemory_check_steps = 1\ngradient_accumulation_steps = " + std::to_string(6 / num_ranks) + "\n",
        "on_bad_steps = rollback\nspike_threshold = 6\neval_data = pairs.jsonl\neval_steps = 2\n"
        "load_best_model_at_end = true\nmetric_for_best_model = loss\ngreater_is_better = true\n",
        "", /*dpo_steps=*/26);
  };
  const std::string faults = "data:14:0:nan;data:15:0:nan;data:16:0:nan;";  // on rank 0, which there always is
  RunOptions bad;
  bad.environment["PLUMB_FAULT"] = faults;
  write_with_faults(1);
  expect_done(pipeline(1, bad), kAll);
  const auto expected = outcomes();
  fs::remove_all(directory_ / "run");
  write_with_faults(2);
  RunOptions lost_bit;
  lost_bit.environment["PLUMB_FAULT"] = "data:5:1:flip";
  const RunResult stopped = pipeline(2, lost_bit);
  EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
  write_with_faults(3);
  killed(3, "step:22:1", faults);
  EXPECT_EQ(statuses().back(), "running");
  write_with_faults(1);
  const RunResult last = pipeline(1, bad);
  expect_done(last, {"dpo"});
  EXPECT_EQ(lines_with(last.err, "the best model is that after step 4").size(), 1u) << last.err;
  EXPECT_EQ(metrics("rolled_back_to", "run/dpo").front().at("step"), 16);
  EXPECT_EQ(outcomes(), expected);
}

TEST_F(PipelineRestart, ARestartRemovesTemporaryFiles) {
  const auto interrupted = [this](const std::string& text, const std::string& fault) {
    RunOptions options;
    if (!fault.empty()) options.environment["PLUMB_FAULT"] = fault;
    options.interrupt_after = text;
    const RunResult result = pipeline(2, options);
    EXPECT_NE(result.exit_code, 0) << text << fault;
    EXPECT_FALSE(result.has_timed_out) << text << fault;
  };
  // more steps than two ranks complete before mpirun forwards the interrupt
  const std::string ini = directory_.read("align.ini");
  std::string longer = ini;
  directory_.write("align.ini", longer.replace(ini.find("max_steps = 6"), 13, "max_steps = 8000"));
  interrupted("step 2/8000 ", "");
  directory_.write("align.ini", ini);
  interrupted(" fault: ", "step:7:1:wait");  // in reward
  interrupted(" fault: ", "step:9:1:wait");  // in dpo
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
