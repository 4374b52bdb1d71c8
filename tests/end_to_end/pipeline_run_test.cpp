// plumb pipeline and plumb auto from the command line: which stages run, which are skipped, and what is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/pipeline_test.hpp"
#include "tests/support/sanitized.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

class PipelineRun : public PipelineTest {};

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

  const auto before = outcomes();
  const auto changed = fs::last_write_time(directory_ / "run/dpo/metrics.jsonl");
  const RunResult again = pipeline(3);  // also on more ranks
  expect_done(again, {});
  for (const std::string& stage : kAll) EXPECT_EQ(lines_with(again.err, stage + " is done").size(), 1u) << again.err;
  EXPECT_EQ(outcomes(), before);
  EXPECT_EQ(fs::last_write_time(directory_ / "run/dpo/metrics.jsonl"), changed);
}

TEST_F(PipelineRun, RerunsStagesAffectedByAnEdit) {
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
  EXPECT_EQ(stages_run(gone), std::vector<std::string>{"reward"}) << gone.err;  // with the same result
}

TEST_F(PipelineRun, AStageReturnsItsMemoryToTheNext) {
  SKIP_UNDER_SANITIZER();
  const RunResult made = run(0, {"init", "--output_dir", "big", "--hidden_size", "384", "--num_layers", "6"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  directory_.write("align.ini",
                   "model = big\noutput_dir = run\nthreads = 1\nmax_steps = 1\nstartup_checks = false\n"
                   "per_device_train_batch_size = 1\n[sft]\ndata = rows.jsonl\n[dpo]\ndata = pairs.jsonl\n");
  expect_done(pipeline(1), {"sft", "dpo"});
  const auto plan = [&](const std::string& stage) {
    return json::parse(directory_.read("run/" + stage + "/run.json"))["plan"];
  };
  const double own_bytes = plan("sft")["total_bytes"].get<double>() - plan("sft")["program_bytes"].get<double>();
  EXPECT_GT(own_bytes, 100e6);
  EXPECT_LT(plan("dpo")["program_bytes"].get<double>() - plan("sft")["program_bytes"].get<double>(), 0.3 * own_bytes);
  // the reference model's memory is freed before training
  EXPECT_LT(metrics("loss", "run/dpo")[0]["memory_bytes"].get<double>(),
            1.2 * plan("dpo")["total_bytes"].get<double>());
}

TEST_F(PipelineRun, RefusesInvalidStagesBeforeTheFirstRuns) {
  const auto refused = [&](const std::string& ini, int exit_code, const std::vector<std::string>& parts) {
    directory_.write("align.ini", ini);
    expect_refused(pipeline(0), exit_code, parts);
    EXPECT_FALSE(exists("run/sft")) << ini;
  };
  const std::string common = "model = model\noutput_dir = run\n[sft]\ndata = rows.jsonl\n";
  directory_.write("align.ini", common + "[dpo]\ndata = none.jsonl\n");
  expect_refused(pipeline(2), 74, {"[dpo]", "none.jsonl"});  // once, not by each rank
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
  expect_refused(run(0, {"pipeline", "align.ini", "--max_steps", "3"}), 2, {"unknown option --max_steps"});
  EXPECT_EQ(run(0, {"pipeline", "--help"}).exit_code, 0);
}

TEST_F(PipelineRun, AutoChoosesStagesFromTheRows) {
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
  EXPECT_EQ(json::parse(directory_.read("run/sft/run.json"))["options"]["eval_data"], "\"eval rows.jsonl\"");
  for (const char* stage : {"reward", "dpo"})
    EXPECT_EQ(json::parse(directory_.read(std::string("run/") + stage + "/run.json"))["options"]["eval_data"],
              "eval_pairs.jsonl");
  const RunResult again = run(1, {"pipeline", "run/pipeline.ini"});
  expect_done(again, {});

  EXPECT_EQ(stages_run(make("only_pairs", {"pairs.jsonl"})), (std::vector<std::string>{"reward", "dpo"}));
  EXPECT_EQ(stages_run(make("only_rows", {"rows.jsonl"})), (std::vector<std::string>{"sft"}));
  const RunResult policy = make("policy", {"rows.jsonl", "--reward_funcs", "length", "--max_completion_length", "8"});
  EXPECT_EQ(stages_run(policy), (std::vector<std::string>{"sft", "grpo"})) << policy.err;
}

TEST_F(PipelineRun, AutoRefusesInvalidInputBeforeAnyStage) {
  const auto refused = [&](std::vector<std::string> arguments, int exit_code, const std::vector<std::string>& parts) {
    arguments.insert(arguments.begin(), {"auto", "--output_dir", "run"});
    expect_refused(run(0, arguments), exit_code, parts);
    EXPECT_FALSE(exists("run"));
  };
  refused({"--model", "model", "--data", "rows.jsonl", "--bta", "1"}, 2, {"bta", "did you mean --beta?"});
  refused({"--model", "model", "--data", "rows.jsonl", "--beta", "1"}, 2, {"beta", "got one of dpo"});
  refused({"--model", "model", "--data", "rows.jsonl", "--max_steps", "few"}, 2, {"--max_steps", "few"});
  refused({"--model", "model", "--data", "rows.jsonl", "--eval_data", "pairs.jsonl"}, 2, {"pairs.jsonl", "--data"});
  refused({"--model", "model", "--data", "none.jsonl"}, 74, {"none.jsonl"});
  refused({"--model", "nothing", "--data", "rows.jsonl"}, 74, {"nothing"});
  refused({"--data", "rows.jsonl"}, 2, {"--model is required"});
  refused({"--model", "model"}, 2, {"--data is required"});
}

}  // namespace
}  // namespace plumb::test
