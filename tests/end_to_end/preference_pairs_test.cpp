// Reward models in plumb dpo: pairs dropped or flipped, pairs sampled, and the win rate, read from the files of a run.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

std::vector<json> parse_lines(const std::string& text) {
  std::vector<json> rows;
  for (const std::string& line : lines_with(text, "{")) rows.push_back(json::parse(line));
  return rows;
}

class PreferencePairs : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    std::string pairs;
    for (int i = 0; i < 20; ++i)
      pairs += json({{"prompt", "What is " + std::to_string(i * i) + " and one?"},
                     {"chosen", " It is " + std::to_string(i * i + 1)},
                     {"rejected", std::string(1 + i % 3, '?')},
                     {"number", i}})
                   .dump() +
               "\n";
    directory_.write("pairs.jsonl", pairs);
    const RunResult trained = train(0, "reward", {{"output_dir", "rm"}, {"max_steps", "1"}, {"learning_rate", "0"}});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }

  RunResult train(int num_ranks, const std::string& stage, const Options& options) const {
    Options all = {{"model", "model"}, {"data", "pairs.jsonl"}, {"output_dir", "out"},
                   {"threads", "1"},   {"max_steps", "1"},      {"logging_steps", "1"}};
    for (const auto& [name, value] : options) all[name] = value;
    std::vector<std::string> arguments = {stage};
    for (const auto& [name, value] : all) arguments.insert(arguments.end(), {"--" + name, value});
    return run(num_ranks, arguments);
  }

  RunResult dpo(int num_ranks, const Options& options) const {
    Options all = {{"reward_model", "rm/model"}, {"max_completion_length", "12"}};
    for (const auto& [name, value] : options) all[name] = value;
    return train(num_ranks, "dpo", all);
  }

  std::string file_named(const std::string& prefix, const std::string& output_dir = "out") const {
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / (output_dir + "/data"))) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(prefix) && entry.path().extension() == ".jsonl") return output_dir + "/data/" + name;
    }
    ADD_FAILURE() << "no file " << prefix << "*.jsonl";
    return "";
  }

  json fact(const std::string& name, const std::string& output_dir = "out") const {
    const json notes = json::parse(directory_.read(output_dir + "/notes.json"));
    for (const json& item : notes.at("facts"))
      if (item.at("name") == name) return item.at("value");
    return nullptr;
  }

  /// The pairs with their rewards, by plumb score.
  std::vector<json> scored_pairs() const {
    const RunResult scored =
        run(0, {"score", "--model", "rm/model", "--data", "pairs.jsonl", "--threads", "1", "--output", "scored.jsonl"});
    EXPECT_EQ(scored.exit_code, 0) << scored.err;
    return parse_lines(directory_.read("scored.jsonl"));
  }
};

double margin_of(const json& row) {
  return row.at("chosen_reward").get<double>() - row.at("rejected_reward").get<double>();
}

TEST_F(PreferencePairs, AreCountedWithoutAFilter) {
  const RunResult result = dpo(2, {});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  double num_right = 0, margin = 0;
  for (const json& row : scored_pairs()) {
    num_right += margin_of(row) > 0 ? 1 : 0;
    margin += margin_of(row) / 20;
  }
  EXPECT_NEAR(fact("share of pairs the reward model agrees with").get<double>(), num_right / 20, 1e-9);
  EXPECT_NEAR(fact("mean reward margin of the pairs").get<double>(), margin, 1e-6);
  EXPECT_TRUE(fact("pairs dropped").is_null());
}

TEST_F(PreferencePairs, BelowTheThresholdAreDroppedOrFlipped) {
  const std::vector<json> scored = scored_pairs();
  ASSERT_EQ(scored.size(), 20u);
  std::vector<double> margins;
  for (const json& row : scored) margins.push_back(margin_of(row));
  std::sort(margins.begin(), margins.end());
  const double threshold = (margins[7] + margins[8]) / 2;  // eight pairs are below
  ASSERT_LT(margins[7], margins[8]);
  for (const std::string filter : {"drop", "flip"}) {
    const RunResult result =
        dpo(2, {{"pair_filter", filter}, {"pair_threshold", std::to_string(threshold)}, {"output_dir", filter}});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(fact("pairs dropped", filter), filter == "drop" ? 8 : 0);
    EXPECT_EQ(fact("pairs flipped", filter), filter == "drop" ? 0 : 8);
    const std::vector<json> rows = parse_lines(directory_.read(file_named("filtered-", filter)));
    ASSERT_EQ(rows.size(), filter == "drop" ? 12u : 20u);
    for (const json& row : rows) {
      const json& source = scored.at(row.at("source_row").get<size_t>());
      const bool is_flipped = margin_of(source) < threshold;
      EXPECT_EQ(row.at("number"), source.at("number"));
      EXPECT_EQ(row.at("chosen"), source.at(is_flipped ? "rejected" : "chosen"));
      EXPECT_EQ(row.at("rejected"), source.at(is_flipped ? "chosen" : "rejected"));
      EXPECT_NEAR(margin_of(row), is_flipped ? -margin_of(source) : margin_of(source), 1e-5);
      EXPECT_TRUE(filter == "flip" || !is_flipped);
    }
  }
}

TEST_F(PreferencePairs, FilterThatLeavesNoneIsAnError) {
  expect_refused(dpo(3, {{"pair_filter", "drop"}, {"pair_threshold", "1e9"}}), 65, {"--pair_threshold", "20 dropped"});
}

TEST_F(PreferencePairs, SampledAreTheSameOnAnyNumberOfRanks) {
  const Options options = {{"pairs", "sampled"}, {"data", "rows.jsonl"}, {"num_generations", "3"}};
  std::string first;
  for (const int num_ranks : {1, 3}) {
    Options all = options;
    all["output_dir"] = "out" + std::to_string(num_ranks);
    const RunResult result = dpo(num_ranks, all);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const std::string text = directory_.read(file_named("sampled-", all["output_dir"]));
    if (first.empty()) first = text;
    EXPECT_EQ(text, first);
  }
  const std::vector<json> rows = parse_lines(first);
  EXPECT_EQ(rows.size(), 48u);
  EXPECT_EQ(fact("pairs sampled", "out1"), 48);
  const std::vector<json> sources = parse_lines(directory_.read("rows.jsonl"));
  for (const json& row : rows) {
    EXPECT_EQ(row.at("prompt"), sources.at(row.at("source_row").get<size_t>()).at("prompt"));
    EXPECT_NE(row.at("chosen"), row.at("rejected"));
    EXPECT_GE(margin_of(row), 0);
  }
  const RunResult again = dpo(2, {{"pairs", "sampled"},
                                  {"data", "rows.jsonl"},
                                  {"num_generations", "3"},
                                  {"output_dir", "out1"},
                                  {"overwrite_output_dir", "true"}});
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(lines_with(again.err, "these pairs exist already").size(), 1u) << again.err;
  EXPECT_EQ(fact("pairs sampled", "out1"), 48);
}

TEST_F(PreferencePairs, SampledHaveTheRewardsOfScore) {
  const RunResult result = dpo(2, {{"pairs", "sampled"}});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string sampled = file_named("sampled-");
  const RunResult scored =
      run(0, {"score", "--model", "rm/model", "--data", sampled, "--threads", "1", "--output", "scored.jsonl"});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;
  const std::vector<json> expected = parse_lines(directory_.read("scored.jsonl"));
  const std::vector<json> rows = parse_lines(directory_.read(sampled));
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t i = 0; i < rows.size(); ++i)
    for (const char* key : {"chosen_reward", "rejected_reward"})
      EXPECT_NEAR(rows[i].at(key).get<double>(), expected[i].at(key).get<double>(), 1e-5);
}

TEST_F(PreferencePairs, ConversationsAreSampledAsConversations) {
  for (const auto& [directory, seed] : {std::pair{"chat", "1"}, {"chat_rm", "2"}}) {
    const RunResult made = run(0, {"init", "--output_dir", directory, "--hidden_size", "32", "--num_layers", "1",
                                   "--num_heads", "4", "--chat_template", "chatml", "--seed", seed});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  std::string rows;
  for (int i = 0; i < 6; ++i)
    rows +=
        json({{"instruction", "Add one."}, {"input", std::to_string(i)}, {"output", std::to_string(i + 1)}}).dump() +
        "\n";
  directory_.write("rows.jsonl", rows);
  ASSERT_EQ(train(0, "reward", {{"model", "chat_rm"}, {"output_dir", "rm2"}, {"learning_rate", "0"}}).exit_code, 0);
  const RunResult result =
      dpo(2, {{"model", "chat"}, {"reward_model", "rm2/model"}, {"data", "rows.jsonl"}, {"pairs", "sampled"}});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const json& row : parse_lines(directory_.read(file_named("sampled-")))) {
    EXPECT_EQ(row.at("prompt"), json::parse(R"([{"role": "user", "content": "Add one.\n)" +
                                            std::to_string(row.at("source_row").get<int>()) + "\"}]"));
    EXPECT_EQ(row.at("chosen").at(0).at("role"), "assistant");
    EXPECT_NE(row.at("chosen"), row.at("rejected"));
  }
}

TEST_F(PreferencePairs, WinRateIsThatOfTheSamples) {
  const RunResult result = dpo(
      3, {{"eval_data", "pairs.jsonl"}, {"num_win_rate_prompts", "10"}, {"learning_rate", "0.01"}, {"max_steps", "4"}});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json notes = json::parse(directory_.read("out/notes.json"));
  ASSERT_EQ(notes.at("samples").size(), 10u);
  double wins = 0;
  bool has_changed = false;
  for (const json& sample : notes.at("samples")) {
    const double before = sample.at("reward before"), after = sample.at("reward after");
    wins += sample.at("before") == sample.at("after") || before == after ? 0.5 : (after > before ? 1 : 0);
    has_changed = has_changed || sample.at("before") != sample.at("after");
    EXPECT_TRUE(sample.at("prompt").get<std::string>().starts_with("What is "));
  }
  EXPECT_TRUE(has_changed);
  EXPECT_NEAR(fact("win rate of DPO over its start").get<double>(), wins / 10, 1e-12);
  EXPECT_EQ(lines_with(result.err, "win rate of DPO over its start").size(), 1u) << result.err;
}

TEST_F(PreferencePairs, UntrainedModelTiesWithItself) {
  const RunResult result = dpo(1, {{"eval_data", "pairs.jsonl"}, {"learning_rate", "0"}});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(fact("win rate of DPO over its start"), 0.5);
}

TEST_F(PreferencePairs, NeedARewardModel) {
  expect_refused(dpo(2, {{"reward_model", "model"}}), 2, {"reward model", "score.weight"});
  expect_refused(dpo(2, {{"reward_model", "nothing"}}), 74, {"nothing"});
  expect_refused(train(0, "dpo", {{"pairs", "sampled"}}), 2, {"--reward_model"});
  expect_refused(train(0, "dpo", {{"pair_filter", "drop"}}), 2, {"--reward_model"});
}

}  // namespace
}  // namespace plumb::test
