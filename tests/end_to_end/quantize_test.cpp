// plumb quantize writes a model that evaluates, generates and exports like any other, with the loss of its dequantized
// weights.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class Quantize : public ProgramTest {
 protected:
  void quantize(int num_ranks, const std::string& to, const std::string& double_quant = "true") const {
    const RunResult result =
        run(num_ranks, {"quantize", "--model", "model", "--output_dir", to, "--double_quant", double_quant});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  json evaluate(int num_ranks, const std::string& model) const {
    const RunResult result = run(num_ranks, {"evaluate", "--model", model, "--data", "rows.jsonl", "--threads", "1"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
  std::string generate(const std::string& model) const {
    return run(0, {"generate", "--model", model, "--prompt", "What is 4?", "--max_new_tokens", "12"}).out;
  }
};

TEST_F(Quantize, HasTheLossOfItsDequantizedWeights) {
  quantize(0, "nf4");
  // a new adapter changes nothing, so merging it writes the dequantized weights
  ASSERT_EQ(sft(2, {{"model", "nf4"}, {"max_steps", "1"}, {"learning_rate", "0"}, {"lora_r", "2"}}).exit_code, 0);
  ASSERT_EQ(
      run(2, {"merge", "--model", "nf4", "--adapter", "out/adapter", "--output_dir", "numbers", "--dtype", "float32"})
          .exit_code,
      0);
  EXPECT_FALSE(json::parse(directory_.read("numbers/config.json")).contains("quantization_config"));
  const json expected = evaluate(0, "numbers");
  EXPECT_EQ(evaluate(0, "nf4"), expected);
  EXPECT_EQ(evaluate(3, "nf4"), expected);
  EXPECT_NE(evaluate(0, "model")["loss"], expected["loss"]);
  EXPECT_EQ(generate("nf4"), generate("numbers"));
}

TEST_F(Quantize, WritesTheSameBytesOnAnyNumberOfRanks) {
  quantize(0, "alone");
  quantize(3, "on_three");
  const std::string weights = directory_.read("alone/model.safetensors");
  EXPECT_FALSE(weights.empty());
  EXPECT_TRUE(directory_.read("on_three/model.safetensors") == weights);
  EXPECT_EQ(directory_.read("on_three/config.json"), directory_.read("alone/config.json"));
  EXPECT_EQ(directory_.read("alone/tokenizer.json"), directory_.read("model/tokenizer.json"));
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  quantize(0, "plain_scales", "false");
  EXPECT_NE(directory_.read("plain_scales/model.safetensors"), weights);
}

TEST_F(Quantize, RefusesInvalidInput) {
  quantize(0, "nf4");
  expect_refused(run(0, {"quantize", "--model", "nf4", "--output_dir", "again"}), 2, {"nf4", "NF4 already"});
  expect_refused(run(2, {"quantize", "--model", "model", "--output_dir", "nf4"}), 2, {"nf4", "new or empty"});
  EXPECT_EQ(run(0, {"quantize", "--model", "model", "--output_dir", "nf4", "--overwrite_output_dir", "true"}).exit_code,
            0);
  EXPECT_FALSE(exists("again"));
}

}  // namespace
}  // namespace plumb::test
