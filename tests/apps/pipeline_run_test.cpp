// plumb pipeline and plumb auto as a user starts them: what runs, what does not run again, and what comes of a run that
// was killed, interrupted, or given bad data.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class PipelineRun : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("pairs.jsonl", pairs(24));
    write_ini();
  }

  static std::string pairs(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const json row = {{"prompt", "What is " + std::to_string(i * i) + " and one?"},
                        {"chosen", " It is " + std::to_string(i * i + 1)},
                        {"rejected", " I do not know" + std::string(i % 3, '.')}};
      text += row.dump() + "\n";
    }
    return text;
  }

  /// Different numbers of steps, so that a line of one stage's log is no other's.
  void write_ini(const std::string& common = "", const std::string& dpo = "", const std::string& sft = "") const {
    directory_.write("align.ini",
                     "model = model\noutput_dir = run\nthreads = 1\nlogging_steps = 1\n"
                     "per_device_train_batch_size = 2\nlearning_rate = 0.001\n" +
                         common + "[dpo]\ndata = pairs.jsonl\nmax_steps = 22\n" + dpo +
                         "[sft]\ndata = rows.jsonl\nmax_steps = 20\n" + sft +
                         "[reward]\ndata = pairs.jsonl\nmax_steps = 21\n");
  }

  RunResult pipeline(int num_ranks, const RunOptions& options = {}) const {
    return run(num_ranks, {"pipeline", "align.ini"}, options);
  }

  /// The stages that a run trained, by its log.
  static std::vector<std::string> stages_run(const RunResult& result) {
    std::vector<std::string> names;
    for (const std::string& line : lines_with(result.err, "plumb: pipeline: stage "))
      names.push_back(line.substr(line.rfind(' ') + 1));
    return names;
  }

  std::vector<std::string> statuses() const {
    const json state = json::parse(directory_.read("run/pipeline.json"));
    std::vector<std::string> all;
    for (const json& stage : state.at("stages")) all.push_back(stage.at("status").get<std::string>());
    return all;
  }

  /// What must not depend on how often the pipeline was started: models, and metrics but for time and memory.
  std::string results() const {
    std::string text;
    for (const std::string stage : {"sft", "reward", "dpo"}) {
      text += directory_.read("run/" + stage + "/model/model.safetensors");
      for (const std::string& line : lines_with(directory_.read("run/" + stage + "/metrics.jsonl"), "{")) {
        json metrics = json::parse(line);
        for (const char* key : {"step_seconds", "tokens_per_second", "memory_bytes"}) metrics.erase(key);
        text += metrics.dump() + "\n";
      }
    }
    return text;
  }

  void expect_done(const RunResult& result, const std::vector<std::string>& stages) const {
    EXPECT_EQ(result.exit_code, 0) << result.err << result.launcher;
    EXPECT_EQ(stages_run(result), stages) << result.err;
    EXPECT_EQ(statuses(), kDone);
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }

  const std::vector<std::string> kAll = {"sft", "reward", "dpo"};
  const std::vector<std::string> kDone = {"done", "done", "done"};
};

TEST_F(PipelineRun, RunsAllStagesOnceAndReportsThem) {
  const RunResult first = pipeline(2);
  expect_done(first, kAll);
  for (const std::string& stage : kAll)
    for (const char* name : {"model/config.json", "metrics.jsonl", "run.json", "report.html"})
      EXPECT_TRUE(exists("run/" + stage + "/" + name)) << stage << " " << name;
  EXPECT_EQ(json::parse(directory_.read("run/reward/run.json"))["options"]["model"], "run/sft/model");
  EXPECT_EQ(json::parse(directory_.read("run/dpo/run.json"))["options"]["reward_model"], "run/reward/model");
  EXPECT_NE(directory_.read("run/reward/model/model.safetensors").find("score.weight"), std::string::npos);
  const std::string page = directory_.read("run/report.html");
  for (const char* part : {">done<", "Supervised fine-tuning", "stage-0", "stage-1", "stage-2"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find(">running<"), std::string::npos);

  const std::string before = results();
  const auto changed = fs::last_write_time(directory_ / "run/dpo/metrics.jsonl");
  const RunResult again = pipeline(3);  // more ranks are no reason either
  expect_done(again, {});
  for (const std::string& stage : kAll) EXPECT_EQ(lines_with(again.err, stage + " is done").size(), 1u) << again.err;
  EXPECT_EQ(results(), before);
  EXPECT_EQ(fs::last_write_time(directory_ / "run/dpo/metrics.jsonl"), changed);
}

TEST_F(PipelineRun, RunsAgainWhatAnEditConcerns) {
  expect_done(pipeline(1), kAll);
  write_ini("", "beta = 0.3\n");
  const RunResult beta = pipeline(1);
  expect_done(beta, {"dpo"});
  EXPECT_EQ(lines_with(beta.err, "dpo runs: beta: 0.1, now 0.3").size(), 1u) << beta.err;

  write_ini("eval_steps = 3\nlogging_steps_ = 1\n", "beta = 0.3\n");
  EXPECT_EQ(pipeline(1).exit_code, 2);
  write_ini("eval_steps = 3\nstartup_checks = false\n", "beta = 0.3\n");
  expect_done(pipeline(1), {});

  write_ini("", "beta = 0.3\n", "seed = 5\n");
  const RunResult seed = pipeline(1);
  expect_done(seed, kAll);
  EXPECT_EQ(lines_with(seed.err, "sft runs: seed: 42, now 5").size(), 1u) << seed.err;
  EXPECT_EQ(lines_with(seed.err, "reward runs: contents of model changed").size(), 1u) << seed.err;

  directory_.write("pairs.jsonl", pairs(23));
  const RunResult data = pipeline(1);
  expect_done(data, {"reward", "dpo"});
  EXPECT_EQ(lines_with(data.err, "reward runs: contents of data changed").size(), 1u) << data.err;

  fs::remove_all(directory_ / "run/reward/model");
  const RunResult gone = pipeline(1);
  EXPECT_EQ(stages_run(gone), std::vector<std::string>{"reward"}) << gone.err;  // it comes out as it was
}

TEST_F(PipelineRun, KilledInAnyStageItGoesOnAndEndsWithTheSame) {
  expect_done(pipeline(2), kAll);
  const std::string undisturbed = results();
  fs::remove_all(directory_ / "run");
  const std::vector<std::string> after = {"step 3/20 ", "step 3/21 ", "step 3/22 "};
  for (size_t stage = 0; stage < 3; ++stage) {
    RunOptions options;
    options.kill_ranks_after = after[stage];
    const RunResult killed = pipeline(2, options);
    EXPECT_NE(killed.exit_code, 0);
    EXPECT_FALSE(killed.has_timed_out);
    EXPECT_EQ(statuses()[stage], "running") << "it was not killed in time: " << killed.err;
    for (size_t done = 0; done < stage; ++done) EXPECT_EQ(statuses()[done], "done");
    EXPECT_EQ(stages_run(killed).size(), stage == 0 ? 1u : 2u) << killed.err;
  }
  const RunResult last = pipeline(2);
  expect_done(last, {"dpo"});
  EXPECT_EQ(lines_with(last.err, "dpo runs: it was begun and is unfinished").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "holds these rows already").size(), 1u) << last.err;
  EXPECT_EQ(lines_with(last.err, "reference: log-probabilities").size(), 0u) << last.err;
  EXPECT_EQ(results(), undisturbed);
}

TEST_F(PipelineRun, KilledBetweenStagesAndGoneOnWithOnOtherRanksItEndsWithTheSame) {
  write_ini("gradient_accumulation_steps = 3\n");
  expect_done(pipeline(1), kAll);
  const std::string undisturbed = results();
  fs::remove_all(directory_ / "run");
  RunOptions options;
  options.kill_ranks_after = "stage 2 of 3";
  EXPECT_NE(pipeline(1, options).exit_code, 0);
  write_ini("gradient_accumulation_steps = 1\n");
  expect_done(pipeline(3), {"reward", "dpo"});
  EXPECT_EQ(results(), undisturbed);
}

TEST_F(PipelineRun, InterruptedItLeavesNothingThatTheNextStartDoesNotClean) {
  for (const char* text : {"step 2/20 ", "stage 2 of 3", "step 2/22 "}) {
    RunOptions options;
    options.interrupt_after = text;
    const RunResult interrupted = pipeline(2, options);
    EXPECT_NE(interrupted.exit_code, 0) << text;
    EXPECT_LT(interrupted.seconds_after_interrupt, 20) << text;
  }
  // what a process may leave that is killed in the middle of writing
  fs::create_directories(directory_ / "run/dpo/model.tmp-abcdef");
  directory_.write("run/dpo/run.json.tmp-1", "{");
  directory_.write("run/pipeline.json.tmp-1", "{");
  const RunResult last = pipeline(2);
  expect_done(last, {"dpo"});
}

TEST_F(PipelineRun, AStageThatFailsKeepsWhatIsDoneAndGoesOnOnceMended) {
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

TEST_F(PipelineRun, RefusesWhatCannotRunBeforeAnythingDoes) {
  const auto refused = [&](const std::string& ini, int exit_code, const std::vector<std::string>& parts) {
    directory_.write("align.ini", ini);
    expect_refused(pipeline(2), exit_code, parts);
    EXPECT_FALSE(exists("run/sft")) << ini;
  };
  const std::string common = "model = model\noutput_dir = run\n[sft]\ndata = rows.jsonl\n";
  refused(common + "[dpo]\ndata = none.jsonl\n", 74, {"[dpo]", "none.jsonl", "No such file"});
  refused(common + "[dpo]\ndata = pairs.jsonl\nreward_model = judge\n", 74, {"[dpo]", "reward_model judge"});
  refused("model = nothing\noutput_dir = run\n[sft]\ndata = rows.jsonl\n", 74, {"[sft]", "model nothing"});
  refused(common + "bta = 1\n", 2, {"align.ini", "[sft]", "bta"});
  refused("model = model\noutput_dir = rows.jsonl/run\n[sft]\ndata = rows.jsonl\n", 74, {"rows.jsonl/run"});
  fs::create_directories(directory_ / "run");
  directory_.write("run/pipeline.json", "{\"stages\": ");
  refused(common, 65, {"pipeline.json", "remove it"});
  expect_refused(run(0, {"pipeline", "missing.ini"}), 74, {"missing.ini", "No such file"});
  expect_refused(run(0, {"pipeline"}), 2, {"usage: plumb pipeline FILE.ini"});
  expect_refused(run(0, {"pipeline", "align.ini", "--max_steps", "3"}), 2, {"expected one file"});
  EXPECT_EQ(run(0, {"pipeline", "--help"}).exit_code, 0);
}

TEST_F(PipelineRun, AutoMakesStagesOfTheRowsAndPrintsWhatItRuns) {
  const auto make = [&](const std::string& output_dir, const std::vector<std::string>& data) {
    std::vector<std::string> arguments = {"auto",         "--model",  "model",     "--max-steps", "1",
                                          "--output_dir", output_dir, "--threads", "1",           "--data"};
    arguments.insert(arguments.end(), data.begin(), data.end());
    return run(2, arguments);
  };
  directory_.write("eval rows.jsonl", rows(4));
  directory_.write("eval_pairs.jsonl", pairs(4));
  const RunResult both =
      make("run", {"pairs.jsonl", "rows.jsonl", "--eval_data", "eval rows.jsonl", "eval_pairs.jsonl"});
  expect_done(both, kAll);
  EXPECT_EQ(lines_with(both.out, "[sft]").size(), 1u) << both.out;
  EXPECT_EQ(both.out, directory_.read("run/pipeline.ini") + "\n");
  EXPECT_EQ(json::parse(directory_.read("run/sft/run.json"))["options"]["eval_data"], "eval rows.jsonl");
  for (const char* stage : {"reward", "dpo"})
    EXPECT_EQ(json::parse(directory_.read(std::string("run/") + stage + "/run.json"))["options"]["eval_data"],
              "eval_pairs.jsonl");
  const RunResult again = run(1, {"pipeline", "run/pipeline.ini"});
  expect_done(again, {});

  EXPECT_EQ(stages_run(make("only_pairs", {"pairs.jsonl"})), (std::vector<std::string>{"reward", "dpo"}));
  EXPECT_EQ(stages_run(make("only_rows", {"rows.jsonl"})), (std::vector<std::string>{"sft"}));
}

TEST_F(PipelineRun, AutoRefusesWhatItCannotRunBeforeAnythingDoes) {
  const auto refused = [&](std::vector<std::string> arguments, int exit_code, const std::vector<std::string>& parts) {
    arguments.insert(arguments.begin(), {"auto", "--output_dir", "run"});
    expect_refused(run(2, arguments), exit_code, parts);
    EXPECT_FALSE(exists("run"));
  };
  refused({"--model", "model", "--data", "rows.jsonl", "--bta", "1"}, 2, {"bta", "did you mean --beta?"});
  refused({"--model", "model", "--data", "rows.jsonl", "--beta", "1"}, 2, {"beta", "got one of dpo"});
  refused({"--model", "model", "--data", "rows.jsonl", "--max_steps", "few"}, 2, {"[sft]", "max_steps", "few"});
  refused({"--model", "model", "--data", "rows.jsonl", "--eval_data", "pairs.jsonl"}, 2, {"pairs.jsonl", "--data"});
  refused({"--model", "model", "--data", "none.jsonl"}, 74, {"none.jsonl"});
  refused({"--model", "nothing", "--data", "rows.jsonl"}, 74, {"nothing"});
  refused({"--data", "rows.jsonl"}, 2, {"--model is required"});
  refused({"--model", "model"}, 2, {"--data is required"});
}

}  // namespace
}  // namespace plumb::test
