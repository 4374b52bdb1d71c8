// plumb score: a reward for every row, which depends neither on its neighbors nor on the number of ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

std::vector<json> json_lines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(json::parse(line, nullptr, false));
    EXPECT_TRUE(lines.back().is_object()) << "not a line of JSON: " << line;
  }
  return lines;
}

class Score : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    const RunResult made = train("reward", 0, {{"output_dir", "reward"}, {"learning_rate", "0.01"}});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }

  RunResult score(int num_ranks, Options options = {}) const {
    options.insert({{"model", "reward/model"}, {"data", "rows.jsonl"}, {"threads", "1"}});
    return run(num_ranks, command_line("score", options));
  }
  std::vector<json> scored_lines(const Options& options, int num_ranks = 0) const {
    const RunResult result = score(num_ranks, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json_lines(result.out);
  }
  double reward_of_text(const std::string& text) const {
    directory_.write("one.jsonl", json{{"text", text}}.dump() + "\n");
    const std::vector<json> lines = scored_lines({{"data", "one.jsonl"}});
    return lines.size() == 1 && lines[0]["reward"].is_number() ? lines[0]["reward"].get<double>() : 1e9;
  }
};

constexpr double kTolerance = 1e-5;

TEST_F(Score, IsTheSameOnAnyNumberOfRanks) {
  const RunResult alone = score(0);
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  const std::vector<json> lines = json_lines(alone.out);
  ASSERT_EQ(lines.size(), 48u);
  for (const json& line : lines) {
    EXPECT_TRUE(line.contains("prompt") && line.contains("completion")) << line;
    EXPECT_TRUE(line["reward"].is_number()) << line;
  }
  EXPECT_NE(lines[0]["reward"], lines[1]["reward"]);
  for (const int num_ranks : {1, 2, 3}) EXPECT_EQ(score(num_ranks).out, alone.out) << num_ranks << " ranks";
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
}

TEST_F(Score, DependsOnNeitherBatchSizeNorNeighbors) {
  const std::vector<json> expected = scored_lines({});
  ASSERT_EQ(expected.size(), 48u);
  for (const char* batch_size : {"1", "5", "100"}) {
    const std::vector<json> lines = scored_lines({{"per_device_eval_batch_size", batch_size}});
    ASSERT_EQ(lines.size(), expected.size());
    for (size_t i = 0; i < lines.size(); ++i)
      EXPECT_NEAR(lines[i]["reward"].get<double>(), expected[i]["reward"].get<double>(), kTolerance) << "row " << i;
  }
  std::istringstream rows_text(rows(48));
  std::vector<std::string> reversed;
  for (std::string line; std::getline(rows_text, line);) reversed.insert(reversed.begin(), line + "\n");
  std::string text;
  for (const std::string& line : reversed) text += line;
  directory_.write("reversed.jsonl", text);
  const std::vector<json> lines = scored_lines({{"data", "reversed.jsonl"}});
  ASSERT_EQ(lines.size(), expected.size());
  for (size_t i = 0; i < lines.size(); ++i)
    EXPECT_NEAR(lines[i]["reward"].get<double>(), expected[47 - i]["reward"].get<double>(), kTolerance) << "row " << i;
}

TEST_F(Score, OfEveryShapeOfRowsIsThatOfItsText) {
  const double expected = reward_of_text("one two");
  directory_.write("x.jsonl", R"({"prompt":"one","completion":" two","note":"kept \u00e9"})"
                              "\n");
  const std::vector<json> completion = scored_lines({{"data", "x.jsonl"}});
  ASSERT_EQ(completion.size(), 1u);
  EXPECT_EQ(completion[0]["note"], "kept \u00e9");
  EXPECT_NEAR(completion[0]["reward"].get<double>(), expected, kTolerance);

  directory_.write("x.jsonl", R"({"prompt":"one","chosen":" two","rejected":" three"})"
                              "\n");
  const std::vector<json> pair = scored_lines({{"data", "x.jsonl"}});
  ASSERT_EQ(pair.size(), 1u);
  EXPECT_NEAR(pair[0]["chosen_reward"].get<double>(), expected, kTolerance);
  EXPECT_NEAR(pair[0]["rejected_reward"].get<double>(), reward_of_text("one three"), kTolerance);
  EXPECT_FALSE(pair[0].contains("reward"));

  directory_.write("x.jsonl", R"({"instruction":"one","output":"two"})"
                              "\n");
  const std::vector<json> instruction = scored_lines({{"data", "x.jsonl"}});
  ASSERT_EQ(instruction.size(), 1u);
  EXPECT_TRUE(instruction[0]["reward"].is_number());

  directory_.write("x.jsonl", R"({"messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]})"
                              "\n");
  const std::vector<json> messages = scored_lines({{"data", "x.jsonl"}, {"chat_template", "zephyr"}});
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_TRUE(messages[0]["reward"].is_number());
  const RunResult without_template = score(0, {{"data", "x.jsonl"}});
  EXPECT_EQ(without_template.exit_code, 2);
  EXPECT_NE(without_template.err.find("no chat template"), std::string::npos) << without_template.err;
}

TEST_F(Score, OfRowsWithoutTextIsNull) {
  directory_.write("x.jsonl",
                   "{\"text\":\"\"}\n{\"text\":\"a\"}\n{\"text\":\"\"}\n{\"text\":\"a b\"}\n{\"text\":\"\"}\n");
  const RunResult alone = score(0, {{"data", "x.jsonl"}});
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  const std::vector<json> lines = json_lines(alone.out);
  ASSERT_EQ(lines.size(), 5u);
  for (size_t i = 0; i < lines.size(); ++i) {
    ASSERT_TRUE(lines[i].contains("reward"));
    EXPECT_EQ(lines[i]["reward"].is_null(), i % 2 == 0) << "row " << i;
  }
  EXPECT_NEAR(lines[3]["reward"].get<double>(), reward_of_text("a b"), kTolerance);
  EXPECT_EQ(score(3, {{"data", "x.jsonl"}}).out, alone.out);
}

TEST_F(Score, OfSeveralFilesIsInTheirOrder) {
  directory_.write("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"\"}\n");
  directory_.write("b.csv", "text\nb\n");
  const std::vector<json> lines = scored_lines({{"data", "a.jsonl b.csv"}}, 2);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["text"], "a");
  EXPECT_TRUE(lines[1]["reward"].is_null());
  EXPECT_EQ(lines[2]["text"], "b");
  EXPECT_TRUE(lines[2]["reward"].is_number());
}

TEST_F(Score, OutputFileIsCompleteOrUnchanged) {
  const RunResult alone = score(0);
  const RunResult to_file = score(2, {{"output", "scores.jsonl"}});
  ASSERT_EQ(to_file.exit_code, 0) << to_file.err;
  EXPECT_EQ(to_file.out, "");
  EXPECT_EQ(directory_.read("scores.jsonl"), alone.out);

  directory_.write("x.jsonl", "{\"text\":\"a\"}\n{\"words\":\"b\"}\n");
  expect_refused(score(2, {{"data", "x.jsonl"}, {"output", "scores.jsonl"}}), 65, {"x.jsonl:2: row 1"});
  EXPECT_EQ(directory_.read("scores.jsonl"), alone.out);
  expect_refused(score(2, {{"output", "absent/scores.jsonl"}}), 74, {"absent/scores.jsonl"});
  std::filesystem::create_directory(directory_ / "folder");
  expect_refused(score(0, {{"output", "folder"}}), 74, {"folder"});
  EXPECT_EQ(run(0, {"score", "--model", "reward/model", "--data", "rows.jsonl", "--output", "/dev/null"}).exit_code,
            74);
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST_F(Score, NeedsARewardModel) {
  for (const int num_ranks : {0, 3})
    expect_refused(score(num_ranks, {{"model", "model"}}), 2,
                   {"model: expected a reward model, got one without score.weight", "plumb reward trains one"});
}

}  // namespace
}  // namespace plumb::test
