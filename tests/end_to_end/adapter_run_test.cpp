// Runs that train adapters: their start-up checks, the loss of the exported adapter on its base, and stages that
// continue the adapter of another stage.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class AdapterRun : public ProgramTest {
 protected:
  void train_adapter(const std::string& stage, int num_ranks, Options options) const {
    if (!options.contains("adapter")) options.insert({"lora_r", "4"});
    options.insert({{"learning_rate", "0.01"}, {"overwrite_output_dir", "true"}});
    const RunResult result = train(stage, num_ranks, options);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const std::string out = options.contains("output_dir") ? options["output_dir"] : "out";
    EXPECT_TRUE(exists(out + "/adapter/adapter_model.safetensors"));
    EXPECT_TRUE(directory_.read(out + "/adapter/tokenizer.json") == directory_.read("model/tokenizer.json"));
    EXPECT_FALSE(exists(out + "/model"));
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }
  json evaluate(int num_ranks, Options options) const {
    options.insert({{"model", "model"}, {"data", "eval.jsonl"}, {"threads", "1"}});
    const RunResult result = run(num_ranks, command_line("evaluate", options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
  std::string scores(const Options& options) const {
    Options all = options;
    all.insert({{"data", "rows.jsonl"}, {"threads", "1"}});
    const RunResult result = run(0, command_line("score", all));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  }
};

TEST_F(AdapterRun, PassesItsStartupChecks) {
  for (const auto& [stage, names] : std::map<std::string, std::vector<std::string>>{
           {"sft", {"each by itself", "accumulation", "EOS"}},
           {"reward", {"each by itself", "accumulation", "padding", "EOS"}},
           {"dpo", {"each by itself", "accumulation", "rewards of zero", "EOS"}}}) {
    SCOPED_TRACE(stage);
    train_adapter(stage, 2, {{"gradient_accumulation_steps", "2"}, {"lora_dropout", "0.2"}, {"quantize", "nf4"}});
    const json checks = json::parse(directory_.read("out/checks.json"))["checks"];
    ASSERT_EQ(checks.size(), names.size()) << checks;
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_NE(checks[i]["name"].get<std::string>().find(names[i]), std::string::npos) << checks;
      EXPECT_TRUE(checks[i]["passed"].get<bool>()) << checks;
    }
  }
}

TEST_F(AdapterRun, ExportsTheLossOfItsLastEvaluation) {
  directory_.write("eval.jsonl", rows(7));
  for (const bool is_quantized : {false, true}) {
    SCOPED_TRACE(is_quantized ? "nf4" : "plain");
    train_adapter("sft", 2, {{"eval_data", "eval.jsonl"}, {"model", is_quantized ? "nf4" : "model"}});
    const double expected = metrics("eval_loss").back()["eval_loss"].get<double>();
    const Options adapted = {{"adapter", "out/adapter"}, {"model", is_quantized ? "nf4" : "model"}};
    EXPECT_NEAR(evaluate(0, adapted)["loss"].get<double>() / expected, 1, 1e-5);
    EXPECT_NEAR(evaluate(3, adapted)["loss"].get<double>() / expected, 1, 1e-5);
    EXPECT_GT(std::abs(evaluate(0, {{"model", adapted.at("model")}})["loss"].get<double>() / expected - 1), 1e-3);
    if (is_quantized) continue;
    ASSERT_EQ(run(0, {"quantize", "--model", "model", "--output_dir", "nf4"}).exit_code, 0);
  }
}

TEST_F(AdapterRun, ARewardModelContinuesAnAdapterWithoutAScore) {
  train_adapter("sft", 0, {{"output_dir", "sft"}});
  train_adapter("reward", 2, {{"adapter", "sft/adapter"}, {"output_dir", "reward"}});
  const json config = json::parse(directory_.read("reward/adapter/adapter_config.json"));
  EXPECT_EQ(config["modules_to_save"], json({"score"}));
  EXPECT_EQ(config["task_type"], "SEQ_CLS");
  const std::string trained = scores({{"model", "model"}, {"adapter", "reward/adapter"}});
  EXPECT_EQ(lines_with(trained, "\"reward\"").size(), 48u);
  // a step with learning rate 0: adapter and score are neither lost nor initialized again, whatever the seed
  train_adapter("reward", 1,
                {{"adapter", "reward/adapter"},
                 {"output_dir", "again"},
                 {"learning_rate", "0"},
                 {"max_steps", "1"},
                 {"seed", "7"}});
  EXPECT_TRUE(directory_.read("again/adapter/adapter_model.safetensors") ==
              directory_.read("reward/adapter/adapter_model.safetensors"));
  EXPECT_EQ(scores({{"model", "model"}, {"adapter", "again/adapter"}}), trained);
  // an adapter with a score cannot be continued in a language model
  expect_refused(sft(0, {{"adapter", "reward/adapter"}}), 2, {"reward/adapter", "language model", "score"});
}

TEST_F(AdapterRun, DpoStartsWithRewardsOfZero) {
  train_adapter("sft", 0, {{"output_dir", "sft"}, {"lora_target_modules", "all-linear"}});
  train_adapter("dpo", 2, {{"adapter", "sft/adapter"}});
  const json first = metrics("loss")[0], last = metrics("loss")[1];
  EXPECT_NEAR(first["loss"].get<double>(), std::log(2), 1e-5);
  for (const char* key : {"rewards/chosen", "rewards/rejected"}) {
    EXPECT_NEAR(first[key].get<double>(), 0, 1e-4) << key;
    EXPECT_GT(std::abs(last[key].get<double>()), 1e-3) << key;
  }
}

}  // namespace
}  // namespace plumb::test
