// The options of plumb sft, by their effects on its outputs: metrics.jsonl, run.json, the prepared data, and the log.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

/// 48 rows in batches of 8: an epoch has 6 steps.
class SftRun : public ProgramTest {
 protected:
  std::vector<json> run_and_read(const Options& options, const char* key = "loss") const {
    Options all = options;
    all["overwrite_output_dir"] = "true";
    const RunResult result = sft(0, all);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return metrics(key);
  }

  static std::vector<double> column(const std::vector<json>& lines, const char* key) {
    std::vector<double> values;
    for (const json& line : lines) values.push_back(line.at(key).get<double>());
    return values;
  }
};

TEST_F(SftRun, LogsTheMetricsOfTrlInEveryLine) {
  const std::vector<json> lines = run_and_read({});
  ASSERT_EQ(lines.size(), 2u);
  for (const json& line : lines) {
    for (const char* key : {"step", "epoch", "loss", "grad_norm", "learning_rate", "num_tokens", "entropy",
                            "mean_token_accuracy", "step_seconds", "tokens_per_second"})
      EXPECT_TRUE(line.contains(key) && line[key].is_number()) << key << " in " << line;
    EXPECT_NEAR(line["loss"].get<double>(), std::log(320.0), 0.1);  // random weights are near uniform over 320 tokens
    EXPECT_GT(line["grad_norm"].get<double>(), 0);
  }
}

TEST_F(SftRun, StepsOverrideEpochs) {
  const std::vector<json> lines = run_and_read({{"max_steps", "3"}, {"num_train_epochs", "2"}});
  EXPECT_EQ(column(lines, "step"), (std::vector<double>{1, 2, 3}));
  EXPECT_EQ(column(lines, "epoch"), (std::vector<double>{1 / 6.0, 2 / 6.0, 3 / 6.0}));
}

TEST_F(SftRun, EpochsMayBeFractions) {
  const std::vector<json> lines = run_and_read({{"max_steps", "-1"}, {"num_train_epochs", "1.25"}});
  ASSERT_EQ(lines.size(), 8u);  // 7.5 steps are rounded up
  EXPECT_EQ(lines.back()["epoch"], 8 / 6.0);
}

TEST_F(SftRun, LastBatchOfAnEpochIsShorterOrDropped) {
  const Options options = {{"max_steps", "-1"}, {"num_train_epochs", "1"}, {"per_device_train_batch_size", "10"}};
  const std::vector<json> all = run_and_read(options);
  ASSERT_EQ(all.size(), 5u);
  Options dropping = options;
  dropping["dataloader_drop_last"] = "true";
  const std::vector<json> dropped = run_and_read(dropping);
  ASSERT_EQ(dropped.size(), 4u);
  EXPECT_EQ(dropped[3]["num_tokens"], all[3]["num_tokens"]);
  EXPECT_GT(all[4]["num_tokens"], all[3]["num_tokens"]);
  // rows are permuted per epoch, not per batch, so the steps before are the same
  EXPECT_EQ(dropped[0]["loss"], all[0]["loss"]);
}

TEST_F(SftRun, LinesBetweenLoggingStepsAreAveraged) {
  const std::vector<json> every = run_and_read({{"max_steps", "8"}});
  const std::vector<json> some = run_and_read({{"max_steps", "8"}, {"logging_steps", "3"}});
  ASSERT_EQ(column(some, "step"), (std::vector<double>{1, 3, 6, 8}));
  const std::vector<double> losses = column(every, "loss");
  EXPECT_EQ(some[0]["loss"], every[0]["loss"]);
  EXPECT_NEAR(some[1]["loss"].get<double>(), (losses[1] + losses[2]) / 2, 1e-12);
  EXPECT_NEAR(some[2]["loss"].get<double>(), (losses[3] + losses[4] + losses[5]) / 3, 1e-12);
  EXPECT_NEAR(some[3]["loss"].get<double>(), (losses[6] + losses[7]) / 2, 1e-12);
  for (const json& line : some) {
    const json& same_step = every[line["step"].get<size_t>() - 1];
    for (const char* key : {"num_tokens", "grad_norm", "learning_rate"}) EXPECT_EQ(line[key], same_step[key]) << key;
  }
}

TEST_F(SftRun, LearningRateFollowsItsSchedule) {
  const Options options = {{"max_steps", "6"}, {"learning_rate", "0.001"}, {"warmup_steps", "2"}};
  const auto expect_rates = [&](const char* schedule, const std::vector<double>& expected) {
    Options all = options;
    all["lr_scheduler_type"] = schedule;
    const std::vector<double> rates = column(run_and_read(all), "learning_rate");
    ASSERT_EQ(rates.size(), expected.size());
    for (size_t i = 0; i < rates.size(); ++i)
      EXPECT_NEAR(rates[i], expected[i] * 1e-3, 1e-15) << schedule << ", step " << i + 1;
  };
  expect_rates("linear", {0, 0.5, 1, 0.75, 0.5, 0.25});
  const double eighth_turn = std::cos(std::acos(-1) / 4);
  expect_rates("cosine", {0, 0.5, 1, (1 + eighth_turn) / 2, 0.5, (1 - eighth_turn) / 2});
  expect_rates("constant_with_warmup", {0, 0.5, 1, 1, 1, 1});
}

TEST_F(SftRun, WarmupBelowOneIsAFractionOfAllSteps) {
  const std::vector<json> lines =
      run_and_read({{"max_steps", "4"}, {"learning_rate", "0.001"}, {"warmup_steps", "0.3"}});
  EXPECT_EQ(column(lines, "learning_rate"), (std::vector<double>{0, 0.0005, 0.001, 0.0005}));  // 1.2 steps count as 2
}

TEST_F(SftRun, EvaluatesEveryEvalStepsAndAtTheEnd) {
  directory_.write("eval.jsonl", rows(5));
  const std::vector<json> lines =
      run_and_read({{"eval_data", "eval.jsonl"}, {"eval_steps", "2"}, {"max_steps", "5"}}, "eval_loss");
  ASSERT_EQ(column(lines, "step"), (std::vector<double>{2, 4, 5}));
  for (const json& line : lines) {
    EXPECT_DOUBLE_EQ(line["eval_perplexity"].get<double>(), std::exp(line["eval_loss"].get<double>()));
    EXPECT_GE(line["eval_mean_token_accuracy"].get<double>(), 0);
    EXPECT_EQ(line["eval_num_tokens"], lines[0]["eval_num_tokens"]);
  }
  EXPECT_NE(lines[0]["eval_loss"], lines[2]["eval_loss"]);
  EXPECT_EQ(metrics("loss").size(), 5u);
}

TEST_F(SftRun, EvaluatesAfterEachEpochByDefault) {
  directory_.write("eval.jsonl", rows(5));
  const Options options = {{"eval_data", "eval.jsonl"}, {"max_steps", "-1"}, {"num_train_epochs", "1.5"}};
  EXPECT_EQ(column(run_and_read(options, "eval_loss"), "step"), (std::vector<double>{6, 9}));
}

TEST_F(SftRun, RunJsonDescribesTheRun) {
  ASSERT_EQ(sft(2, {{"seed", "7"}, {"gradient_accumulation_steps", "3"}}).exit_code, 0);
  const json run = json::parse(directory_.read("out/run.json"));
  EXPECT_EQ(run["command"], "sft");
  EXPECT_EQ(run["ranks"], 2);
  EXPECT_EQ(run["nodes"], 1);
  EXPECT_EQ(run["threads_per_rank"], 1);
  EXPECT_EQ(run["num_steps"], 2);
  EXPECT_EQ(run["options"]["seed"], "7");
  EXPECT_EQ(run["options"]["gradient_accumulation_steps"], "3");
  EXPECT_EQ(run["options"]["data"], "rows.jsonl");
  EXPECT_EQ(run["options"]["learning_rate"], "2e-05");  // defaults too
  EXPECT_GT(run["plan"]["num_parameters"], 0);
  EXPECT_GT(run["plan"]["total_bytes"], run["plan"]["rank_bytes"]);
}

TEST_F(SftRun, MessagesArePlainLinesWithoutATerminal) {
  const RunResult result = sft(2, {{"max_steps", "3"}});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err.find_first_of("\r\x1b"), std::string::npos);
  for (const char* step : {"step 1/3 ", "step 2/3 ", "step 3/3 "})
    EXPECT_EQ(lines_with(result.err, step).size(), 1u) << result.err;
  EXPECT_EQ(lines_with(result.err, "kept 48 of 48 rows").size(), 1u);
  EXPECT_EQ(lines_with(result.err, "the model is in out/model").size(), 1u);
  EXPECT_EQ(result.out, "");
}

TEST_F(SftRun, OverwritingRemovesEventFiles) {
  ASSERT_EQ(sft(2).exit_code, 0);
  const RunResult again = sft(2, {{"overwrite_output_dir", "true"}});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  size_t num_event_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_ / "out"))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) ++num_event_files;
  EXPECT_EQ(num_event_files, 1u);
  const RunResult report = run(0, {"report", "out"});
  ASSERT_EQ(report.exit_code, 0) << report.err;
  const std::string page = directory_.read("out/report.html");
  for (const char* part : {"Supervised fine-tuning", ">done<", "48 of 48 rows kept", "Training rows", "2 ranks"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
}

TEST_F(SftRun, PreparedDataIsReused) {
  ASSERT_EQ(sft(2).exit_code, 0);
  const std::string first_log = directory_.read("out/metrics.jsonl");
  const RunResult again = sft(2, {{"overwrite_output_dir", "true"}, {"learning_rate", "0.1"}});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(lines_with(again.err, "holds these rows already").size(), 1u);
  const RunResult shorter = sft(2, {{"overwrite_output_dir", "true"}, {"max_length", "20"}});
  ASSERT_EQ(shorter.exit_code, 0) << shorter.err;
  EXPECT_EQ(lines_with(shorter.err, "holds these rows already").size(), 0u);
  directory_.write("rows.jsonl", rows(47));
  const RunResult other = sft(2, {{"overwrite_output_dir", "true"}});
  EXPECT_EQ(lines_with(other.err, "kept 47 of 47 rows").size(), 1u) << other.err;
}

TEST_F(SftRun, PreparedDataThatWasDamagedIsPreparedAgain) {
  const std::vector<double> losses = column(run_and_read({}), "loss");
  std::string shard;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_ / "out/data"))
    if (entry.path().extension() == ".h5") shard = std::filesystem::relative(entry.path(), directory_.path());
  std::string bytes = directory_.read(shard);
  ASSERT_FALSE(bytes.empty());
  bytes[bytes.size() / 2] ^= 1;
  directory_.write(shard, bytes);
  for (const char* message : {"preparing the data again", "holds these rows already"}) {
    const RunResult again = sft(0, {{"overwrite_output_dir", "true"}});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(lines_with(again.err, message).size(), 1u) << again.err;
    EXPECT_EQ(column(metrics("loss"), "loss"), losses);
  }
}

TEST_F(SftRun, OrderIsThatOfTheSeedOrOfTheFile) {
  const Options options = {{"max_steps", "1"}, {"per_device_train_batch_size", "4"}};
  const auto first_loss = [&](const Options& more) {
    Options all = options;
    all.insert(more.begin(), more.end());
    return run_and_read(all).at(0)["loss"].get<double>();
  };
  const double loss = first_loss({});
  EXPECT_EQ(first_loss({{"seed", "42"}}), loss);
  EXPECT_NE(first_loss({{"seed", "43"}}), loss);

  directory_.write("first.jsonl", rows(4));
  const RunResult evaluated = run(0, {"evaluate", "--model", "model", "--data", "first.jsonl", "--threads", "1"});
  ASSERT_EQ(evaluated.exit_code, 0) << evaluated.err;
  EXPECT_NEAR(first_loss({{"shuffle", "false"}}), json::parse(evaluated.out)["loss"].get<double>(), 1e-6);
}

TEST_F(SftRun, SeveralFilesAreReadAsOne) {
  directory_.write("a.jsonl", rows(48).substr(0, rows(20).size()));
  directory_.write("b.jsonl", rows(48).substr(rows(20).size()));
  const double whole = run_and_read({{"max_steps", "1"}}).at(0)["loss"];
  EXPECT_EQ(run_and_read({{"max_steps", "1"}, {"data", "a.jsonl b.jsonl"}}).at(0)["loss"], whole);
}

TEST_F(SftRun, ColumnsAndTablesGiveTheSameRows) {
  const double loss = run_and_read({{"max_steps", "1"}}).at(0)["loss"];
  std::string table = "q,unused,a\r\n";
  for (const std::string& line : lines_with(rows(48), "{")) {
    const json row = json::parse(line);
    table += "\"" + row["prompt"].get<std::string>() + "\",x,\"" + row["completion"].get<std::string>() + "\"\r\n";
  }
  directory_.write("rows.csv", table);
  EXPECT_EQ(
      run_and_read({{"max_steps", "1"}, {"data", "rows.csv"}, {"columns", "prompt=q,completion=a"}}).at(0)["loss"],
      loss);
}

TEST_F(SftRun, LossFallsOnLearnableRows) {
  const std::vector<json> lines =
      run_and_read({{"max_steps", "60"}, {"learning_rate", "0.01"}, {"logging_steps", "20"}});
  EXPECT_LT(lines.back()["loss"].get<double>(), 0.5 * lines.front()["loss"].get<double>());
  EXPECT_GT(lines.back()["mean_token_accuracy"].get<double>(), 0.3);
}

}  // namespace
}  // namespace plumb::test
