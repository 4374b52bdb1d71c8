// plumb evaluate: on preference pairs for a reward model, against numbers computed here from the output of plumb score;
// for a policy and its reference, against the log of a dpo run; of completions, on several ranks.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class Evaluate : public ProgramTest {
 protected:
  json evaluate(int num_ranks, Options options) const {
    options.insert({{"data", "pairs.jsonl"}, {"threads", "1"}});
    const RunResult result = run(num_ranks, command_line("evaluate", options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json line = json::parse(result.out, nullptr, false);
    EXPECT_TRUE(line.is_object()) << result.out;
    return line;
  }
};

double ratio(int part, int all) { return static_cast<double>(part) / all; }

TEST_F(Evaluate, OfARewardModelAgreesWithScore) {
  ASSERT_EQ(train("reward", 0, {{"learning_rate", "0.01"}}).exit_code, 0);
  const RunResult scored = run(0, {"score", "--model", "out/model", "--data", "pairs.jsonl", "--threads", "1"});
  ASSERT_EQ(scored.exit_code, 0) << scored.err;

  int num_pairs = 0, num_right = 0, longer = 0, longer_right = 0, shorter = 0, shorter_right = 0;
  std::map<int, std::pair<int, int>> by_bin;  // pairs, right ones
  std::vector<double> rewards, lengths;
  double margin = 0;
  std::istringstream stream(scored.out);
  for (std::string text; std::getline(stream, text);) {
    const json line = json::parse(text);
    const auto chosen = line["chosen_reward"].get<double>(), rejected = line["rejected_reward"].get<double>();
    const auto tokens = [&](const char* side) {  // one token per byte, plus one that ends the text
      return static_cast<int>((line["prompt"].get<std::string>() + line[side].get<std::string>()).size()) + 1;
    };
    const int chosen_tokens = tokens("chosen"), rejected_tokens = tokens("rejected");
    const int is_right = chosen > rejected ? 1 : 0;
    ++num_pairs;
    num_right += is_right;
    if (chosen_tokens > rejected_tokens) ++longer, longer_right += is_right;
    if (chosen_tokens < rejected_tokens) ++shorter, shorter_right += is_right;
    auto& [pairs_of_bin, right_of_bin] =
        by_bin[static_cast<int>(std::bit_width(static_cast<unsigned>(std::max(chosen_tokens, rejected_tokens))))];
    ++pairs_of_bin, right_of_bin += is_right;
    margin += chosen - rejected;
    rewards.insert(rewards.end(), {chosen, rejected});
    lengths.insert(lengths.end(), {static_cast<double>(chosen_tokens), static_cast<double>(rejected_tokens)});
  }
  ASSERT_GT(longer, 0);
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  double covariance = 0, variance_r = 0, variance_l = 0;
  for (size_t i = 0; i < rewards.size(); ++i) {
    const double r = rewards[i] - mean(rewards), l = lengths[i] - mean(lengths);
    covariance += r * l, variance_r += r * r, variance_l += l * l;
  }

  for (const int num_ranks : {0, 3}) {
    const json line = evaluate(num_ranks, {{"model", "out/model"}});
    EXPECT_EQ(line["rows"], num_pairs);
    EXPECT_EQ(line["accuracy"], ratio(num_right, num_pairs));
    EXPECT_EQ(line["accuracy_chosen_longer"], ratio(longer_right, longer));
    EXPECT_EQ(line["accuracy_chosen_shorter"], shorter > 0 ? json(ratio(shorter_right, shorter)) : json());
    EXPECT_NEAR(line["margin"].get<double>(), margin / num_pairs, 1e-6);
    EXPECT_NEAR(line["mean_reward"].get<double>(), mean(rewards), 1e-6);
    EXPECT_NEAR(line["correlation_of_reward_with_length"].get<double>(),
                covariance / std::sqrt(variance_r * variance_l), 1e-6);
    ASSERT_EQ(line["accuracy_by_length"].size(), by_bin.size());
    size_t bucket = 0;
    for (const auto& [bin, counts] : by_bin) {
      const json& got = line["accuracy_by_length"][bucket++];
      EXPECT_EQ(got["tokens"], std::to_string(1 << (bin - 1)) + "-" + std::to_string((1 << bin) - 1));
      EXPECT_EQ(got["pairs"], counts.first);
      EXPECT_EQ(got["accuracy"], ratio(counts.second, counts.first));
    }
  }
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
}

TEST_F(Evaluate, OfARewardModelEqualsTheLogOfItsRun) {
  ASSERT_EQ(train("reward", 2, {{"learning_rate", "0.01"}, {"eval_data", "pairs.jsonl"}}).exit_code, 0);
  const json logged = metrics("eval_loss").back(), line = evaluate(0, {{"model", "out/model"}});
  EXPECT_EQ(line["accuracy"], logged["eval_accuracy"]);
  EXPECT_NEAR(line["margin"].get<double>(), logged["eval_margin"].get<double>(), 1e-6);
  EXPECT_NEAR(line["mean_reward"].get<double>(), logged["eval_mean_reward"].get<double>(), 1e-6);
}

TEST_F(Evaluate, OfAPolicyAndReferenceEqualsTheLogOfItsRun) {
  ASSERT_EQ(train("dpo", 2, {{"learning_rate", "0.001"}, {"eval_data", "pairs.jsonl"}}).exit_code, 0);
  const json logged = metrics("eval_loss").back();
  for (const int num_ranks : {0, 3}) {
    const json line = evaluate(num_ranks, {{"model", "out/model"}, {"ref_model", "model"}});
    EXPECT_EQ(line["num_pairs"], 48);
    for (const char* key : {"loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
                            "logps/chosen", "logps/rejected"})
      EXPECT_NEAR(line[key].get<double>(), logged["eval_" + std::string(key)].get<double>(), 1e-5) << key;
  }
  const json itself = evaluate(0, {{"model", "model"}, {"ref_model", "model"}});
  EXPECT_NEAR(itself["loss"].get<double>(), std::log(2.0), 1e-6);
}

TEST_F(Evaluate, OfCompletionsIsTheSameOnAnyNumberOfRanks) {
  const Options options = {{"model", "model"},          {"data", "rows.jsonl"},    {"reward_funcs", "length regex"},
                           {"reward_pattern", "e"},     {"num_generations", "3"},  {"max_completion_length", "8"},
                           {"reward_weights", "0.5 2"}};
  const json line = evaluate(0, options);
  EXPECT_EQ(evaluate(3, options), line);
  EXPECT_EQ(line["completions"], 3 * line["prompts"].get<int64_t>());
  const auto number = [&](const char* key) { return line[key].get<double>(); };
  EXPECT_NEAR(number("pass@1"), number("rewards/regex/mean"), 1e-12);
  EXPECT_GT(number("pass@2"), number("pass@1"));
  EXPECT_GT(number("pass@3"), number("pass@2"));
  EXPECT_NEAR(number("reward"), 0.5 * number("rewards/length/mean") + 2 * number("rewards/regex/mean"), 1e-9);
  EXPECT_EQ(line["rewards/length/mean"], line["completions/mean_length"]);
}

TEST_F(Evaluate, OfPairsUnderAPolicyNeedsAReference) {
  for (const int num_ranks : {0, 3})
    expect_refused(run(num_ranks, {"evaluate", "--model", "model", "--data", "pairs.jsonl"}), 2, {"--ref_model"});
}

TEST_F(Evaluate, OfARewardModelNeedsPairs) {
  ASSERT_EQ(train("reward", 0).exit_code, 0);
  std::filesystem::rename(directory_ / "out/model", directory_ / "reward");
  expect_refused(run(0, {"evaluate", "--model", "reward", "--data", "rows.jsonl"}), 65,
                 {"rows.jsonl:1: row 0", "these are rows for sft"});
}

}  // namespace
}  // namespace plumb::test
