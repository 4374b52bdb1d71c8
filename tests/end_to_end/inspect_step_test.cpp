// plumb inspect --run --step: the rows of a step, and per-row losses that sum to the logged loss.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/support/resume_test.hpp"

namespace plumb::test {
namespace {

struct StepCase {
  const char* name;
  const char* stage;
  Options options;
};
void PrintTo(const StepCase& given, std::ostream* out) { *out << given.name; }

struct ShownRow {
  int micro_batch = 0, rank = 0, source_row = 0, num_tokens = 0, num_trained = 0;
  double loss = 0;
  bool is_rejected = false;
};

class InspectStep : public ResumeTest, public testing::WithParamInterface<StepCase> {
 protected:
  static std::vector<ShownRow> rows_of(const std::string& text) {
    std::vector<ShownRow> rows;
    for (const std::string& line : lines_with(text, "--- micro-batch ")) {
      ShownRow row;
      int end = 0;
      EXPECT_EQ(std::sscanf(line.c_str(), "--- micro-batch %d, rank %d, source row %d, loss %lf%n", &row.micro_batch,
                            &row.rank, &row.source_row, &row.loss, &end),
                4)
          << line;
      const std::string counts = line.substr(line.find(": ", end));
      EXPECT_EQ(std::sscanf(counts.c_str(), ": %d tokens, %d trained", &row.num_tokens, &row.num_trained), 2) << line;
      row.is_rejected = line.find(", rejected: ") != std::string::npos;
      rows.push_back(row);
    }
    return rows;
  }
};

TEST_P(InspectStep, RowLossesSumToTheStepLoss) {
  const StepCase& given = GetParam();
  Options options = given.options;
  options.insert({{"save_steps", "1"}, {"save_total_limit", "9"}, {"logging_steps", "1"}, {"max_steps", "3"}});
  const RunResult run_result = start(given.stage, 2, options);
  ASSERT_EQ(run_result.exit_code, 0) << run_result.err;
  const RunResult shown = run(0, {"inspect", "--run", "out", "--step", "3"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_EQ(lines_with(shown.out, "step 3 of out").size(), 1u) << shown.out;
  EXPECT_NE(shown.out.find("out/checkpoints/step-000002"), std::string::npos);
  const std::vector<ShownRow> rows = rows_of(shown.out);
  const bool is_sft = given.stage == std::string("sft");
  double sum = 0, weight = 0;
  std::set<int> sources;
  for (const ShownRow& row : rows) {
    EXPECT_EQ(row.rank, row.micro_batch % 2);
    if (row.is_rejected) continue;
    EXPECT_TRUE(sources.insert(row.source_row).second) << row.source_row;
    const double row_weight = is_sft ? row.num_trained : 1;
    sum += row_weight * row.loss;
    weight += row_weight;
  }
  const double logged = metrics("loss").back().at("loss");
  EXPECT_NEAR(sum / weight, logged, 1e-5 * logged);
}

const StepCase kCases[] = {{"sft", "sft", {}},
                           {"packed", "sft", {{"packing", "true"}, {"max_length", "128"}}},
                           {"reward", "reward", {}},
                           {"adapter", "dpo", {{"lora_r", "4"}, {"lora_dropout", "0.0"}}}};
INSTANTIATE_TEST_SUITE_P(Stages, InspectStep, testing::ValuesIn(kCases),
                         [](const auto& given) { return std::string(given.param.name); });

class InspectRun : public InspectStep {};

TEST_F(InspectRun, RowsAreThoseOfTheStepForAnyModel) {
  ASSERT_EQ(start("sft", 3, {{"shuffle", "false"}, {"max_steps", "2"}}).exit_code, 0);
  std::filesystem::remove_all(directory_ / "out/checkpoints");
  const RunResult shown = run(0, {"inspect", "--run", "out", "--step", "2"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  EXPECT_NE(shown.out.find("of out/model"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("What is 576 and one?"), std::string::npos);
  const std::vector<ShownRow> rows = rows_of(shown.out);
  ASSERT_EQ(rows.size(), 24u);
  for (int i = 0; i < 24; ++i) EXPECT_EQ(rows[i].source_row, 24 + i);
  const RunResult before = run(0, {"inspect", "--run", "out", "--step", "2", "--model", "model"});
  EXPECT_NE(rows_of(before.out).front().loss, rows.front().loss);

  std::filesystem::remove_all(directory_ / "out/model");
  EXPECT_NE(run(0, {"inspect", "--run", "out", "--step", "2"}).out.find("no losses"), std::string::npos);
  expect_refused(run(0, {"inspect", "--run", "out", "--step", "3"}), 2, {"--step", "1 to 2"});
  expect_refused(run(0, {"inspect", "--run", "model", "--step", "1"}), 2, {"--run model", "run.json"});
  expect_refused(run(0, {"inspect", "--model", "model"}), 2, {"--data", "--run"});
  directory_.write("rows.jsonl", test::rows(47));
  expect_refused(run(0, {"inspect", "--run", "out", "--step", "2"}), 65, {"contents of data changed"});
}

}  // namespace
}  // namespace plumb::test
