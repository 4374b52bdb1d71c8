// Runs of grpo and rloo that make their own completions: rollouts, metrics and weights have the same bits on any number
// of ranks and nodes and after any stop, and a run that is replayed from its rollouts ends in the same model.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tests/support/outcome.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

class PolicyRun : public ProgramTest {
 protected:
  /// Every step has 24 completions in micro-batches of one; six steps, two for each round.
  static Options options_of(int num_ranks, Options options = {}) {
    const int accumulation = 24 / num_ranks;
    options.insert({{"data", "rows.jsonl"},
                    {"per_device_train_batch_size", "1"},
                    {"gradient_accumulation_steps", std::to_string(accumulation)},
                    {"steps_per_generation", std::to_string(2 * accumulation)},
                    {"num_generations", "4"},
                    {"max_completion_length", "12"},
                    {"reward_funcs", "count length"},
                    {"count_text", "e"},
                    {"max_steps", "6"},
                    {"logging_steps", "4"},
                    {"learning_rate", "0.001"},
                    {"overwrite_output_dir", "true"}});
    return options;
  }

  Outcome outcome_of(const std::string& stage, int num_ranks, const Options& options = {},
                     const RunOptions& run_options = {}) const {
    const RunResult result = train(stage, num_ranks, options_of(num_ranks, options), run_options);
    EXPECT_EQ(result.exit_code, 0) << num_ranks << " ranks: " << result.err << result.launcher;
    return read_outcome(directory_ / "out");
  }

  /// All files of rollouts.
  std::string rollouts() const {
    std::string text;
    for (int round = 1; exists(name_of_round(round)); ++round) text += directory_.read(name_of_round(round));
    return text;
  }
  static std::string name_of_round(int round) { return "out/rollouts/round-00000" + std::to_string(round) + ".jsonl"; }
};

TEST_F(PolicyRun, HasTheSameBitsOnAnyNumberOfRanksAndNodes) {
  const Options grpo = {{"beta", "0.04"}, {"loss_type", "grpo"}, {"eval_data", "rows.jsonl"}, {"eval_steps", "3"}};
  const Outcome one = outcome_of("grpo", 1, grpo);
  const std::string made = rollouts();
  ASSERT_FALSE(made.empty());
  EXPECT_NE(one.weights, directory_.read("model/model.safetensors"));
  EXPECT_EQ(outcome_of("grpo", 3, grpo), one);
  EXPECT_EQ(rollouts(), made);
  RunOptions two_nodes;
  two_nodes.environment["PLUMB_RANKS_PER_NODE"] = "4";
  EXPECT_EQ(outcome_of("grpo", 8, grpo, two_nodes), one);
  EXPECT_EQ(rollouts(), made);
}

TEST_F(PolicyRun, WithAnAdapterHasTheSameBits) {
  const Options lora = {{"lora_r", "4"},
                        {"use_dora", "true"},
                        {"steps_per_generation", "24"},
                        {"gradient_accumulation_steps", "24"},
                        {"max_steps", "2"}};
  const Outcome one = outcome_of("rloo", 1, lora);
  const std::string made = rollouts();
  Options on_two = lora;
  on_two["steps_per_generation"] = on_two["gradient_accumulation_steps"] = "12";
  EXPECT_EQ(outcome_of("rloo", 2, on_two), one);
  EXPECT_EQ(rollouts(), made);
}

TEST_F(PolicyRun, ContinuesInsideAndBetweenRounds) {
  const Options options = {{"sync_ref_model", "true"}, {"ref_model_sync_steps", "2"}, {"beta", "0.1"}};
  const Outcome whole = outcome_of("grpo", 1, options);
  const std::string made = rollouts();
  for (const char* last_step : {"3", "4"}) {
    SCOPED_TRACE(last_step);
    Options stopped = options;
    stopped["save_steps"] = "1";
    RunOptions fault;
    fault.environment["PLUMB_FAULT"] = std::string("step:") + last_step + ":0:kill";
    EXPECT_NE(train("grpo", 2, options_of(2, stopped), fault).exit_code, 0);
    stopped["overwrite_output_dir"] = "false";
    const RunResult again = train("grpo", 3, options_of(3, stopped));
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_NE(again.err.find("resuming after step"), std::string::npos) << again.err;
    EXPECT_EQ(read_outcome(directory_ / "out"), whole);
    EXPECT_EQ(rollouts(), made);
  }
}

TEST_F(PolicyRun, IsReproducedFromItsRollouts) {
  const Outcome made = outcome_of("grpo", 2);
  std::filesystem::rename(directory_ / "out", directory_ / "first");
  Options replay = options_of(2, {{"rollouts", "first/rollouts/*.jsonl"}});
  for (const char* name : {"max_steps", "reward_funcs", "count_text"}) replay.erase(name);
  replay["max_steps"] = "0";
  replay["data"] = "rows.jsonl";
  const RunResult result = train("grpo", 2, replay);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_outcome(directory_ / "out").weights, made.weights);
}

/// One prompt, completions of one token, and a reward of 1 for one letter: with a KL term in the reward, the best
/// policy is known, and its probability of the letter is in the rollouts.
TEST_F(PolicyRun, ReachesTheOptimumOfABandit) {
  ASSERT_EQ(
      run(0, {"init", "--output_dir", "bandit", "--hidden_size", "32", "--num_layers", "1", "--num_heads", "2",
              "--num_kv_heads", "2", "--intermediate_size", "32", "--vocab_size", "260"})  // every id may be sampled
          .exit_code,
      0);
  directory_.write("prompt.jsonl", "{\"prompt\": \"Which letter?\"}\n");
  constexpr double kBeta = 0.3;
  const Options options = {{"model", "bandit"},         {"data", "prompt.jsonl"},
                           {"max_steps", "48"},         {"per_device_train_batch_size", "256"},
                           {"num_generations", "256"},  {"max_completion_length", "1"},
                           {"learning_rate", "0.02"},   {"beta", std::to_string(kBeta)},
                           {"reward_funcs", "regex"},   {"reward_pattern", "^x$"},
                           {"startup_checks", "false"}, {"save_steps", "0"}};
  const RunResult result = train("rloo", 0, options);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(directory_.read("out/rollouts/round-000048.jsonl"));
  bool is_found = false;
  for (std::string line; !is_found && std::getline(lines, line);) {
    const nlohmann::json rollout = nlohmann::json::parse(line);
    if (rollout["rewards"][0] != 1) continue;
    is_found = true;
    const double first = std::exp(rollout["reference_logp"].get<double>()), tilt = std::exp(1 / kBeta);
    const double best = first * tilt / (1 - first + first * tilt);
    EXPECT_GT(best, 10 * first);
    EXPECT_NEAR(std::exp(rollout["old_logp"].get<double>()), best, 0.01);
  }
  EXPECT_TRUE(is_found);
}

}  // namespace
}  // namespace plumb::test
