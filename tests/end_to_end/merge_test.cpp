// plumb merge and --adapter from the command line.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/huggingface/peft_adapter.hpp"
#include "io/huggingface/safetensors_writer.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class Merge : public ProgramTest {
 protected:
  /// An adapter large enough to change answers.
  void write_adapter(const LoraConfig& config, HeadKind head = HeadKind::kLanguageModel) const {
    std::filesystem::create_directories(directory_ / "adapter");
    directory_.write("adapter/adapter_config.json", render_lora_config(config));
    const HfModel base(directory_ / "model", HfModelOptions{.head = head});
    TinyTensors tensors;
    int64_t serial = 0;
    const UnitLayout unit = adapter_layout(base.config(), resolve_adapter(config, base.config()));
    for (const Parameter& parameter : unit.parameters) {
      TinyTensor& tensor = tensors[peft_tensor_name(parameter)];
      tensor.shape = parameter.shape;
      for (int64_t i = 0; i < parameter.num_elements(); ++i)
        tensor.values.push_back(0.3f * std::sin(static_cast<float>(++serial)));
    }
    write_tiny_weights(directory_ / "adapter/adapter_model.safetensors", tensors);
  }
  json merge(int num_ranks, Options options) const {
    options.insert({{"model", "model"}, {"adapter", "adapter"}, {"threads", "1"}});
    const RunResult result = run(num_ranks, command_line("merge", options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json line = json::parse(result.out, nullptr, false);
    EXPECT_TRUE(line.is_object()) << result.out;
    return line;
  }
  json evaluate(Options options) const {
    options.insert({{"data", "rows.jsonl"}, {"threads", "1"}});
    const RunResult result = run(0, command_line("evaluate", options));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
};

const LoraConfig kLora = {.r = 4, .lora_alpha = 8, .target_modules = {{"down_proj", "q_proj", "v_proj"}, ""}};

TEST_F(Merge, WritesBasePlusAdapter) {
  write_adapter(kLora);
  const json line = merge(0, {{"output_dir", "merged"}, {"dtype", "float32"}});
  EXPECT_EQ(line["max_abs_delta"].size(), 3u) << line;
  EXPECT_GT(line["max_abs_delta"]["q_proj"].get<double>(), 0);
  EXPECT_LT(line["rounding"]["max_kl"].get<double>(), 1e-12);  // float32 is not rounded
  EXPECT_EQ(line["rounding"]["same_best_token"], 1.0);
  const HfModel merged(directory_ / "model", HfModelOptions{.adapter = directory_ / "adapter"});
  const HfModel written(directory_ / "merged"), base(directory_ / "model");
  for (const UnitLayout& unit : written.units())
    EXPECT_EQ(read_whole_unit(written, unit), read_whole_unit(merged, unit));
  EXPECT_NE(read_whole_unit(written, written.units()[1]), read_whole_unit(base, written.units()[1]));
  EXPECT_TRUE(exists("merged/tokenizer.json"));

  const json with_adapter = evaluate({{"model", "model"}, {"adapter", "adapter"}}),
             of_merged = evaluate({{"model", "merged"}});
  EXPECT_EQ(with_adapter, of_merged);
  EXPECT_NE(with_adapter["loss"], evaluate({{"model", "model"}})["loss"]);
}

TEST_F(Merge, WritesTheSameBytesOnAnyNumberOfRanks) {
  LoraConfig dora = kLora;
  dora.uses_dora = true;
  write_adapter(dora);
  const json alone = merge(0, {{"output_dir", "one"}});
  const json together = merge(3, {{"output_dir", "three"}});
  EXPECT_EQ(alone, together);
  EXPECT_EQ(directory_.read("one/model.safetensors"), directory_.read("three/model.safetensors"));
  EXPECT_EQ(directory_.read("one/config.json"), directory_.read("three/config.json"));
  EXPECT_GT(alone["rounding"]["mean_kl"].get<double>(), 0);
  EXPECT_TRUE(unfinished_files().empty());
}

TEST_F(Merge, QuantizesOnRequestAndReportsTheError) {
  write_adapter(kLora);
  const json line = merge(0, {{"output_dir", "merged"}, {"quantize", "nf4"}, {"probe", "rows.jsonl"}});
  EXPECT_GT(line["quantizing"]["mean_kl"].get<double>(), line["rounding"]["mean_kl"].get<double>());
  EXPECT_TRUE(HfModel(directory_ / "merged").config().is_quantized);
  EXPECT_TRUE(unfinished_files().empty());
  // a quantized base: the merged model is not
  ASSERT_EQ(run(0, {"quantize", "--model", "model", "--output_dir", "nf4"}).exit_code, 0);
  merge(2, {{"model", "nf4"}, {"output_dir", "plain"}});
  EXPECT_FALSE(HfModel(directory_ / "plain").config().is_quantized);
}

TEST_F(Merge, OfARewardAdapterIsARewardModel) {
  write_adapter({.task_type = "SEQ_CLS", .r = 4, .target_modules = {{"q_proj"}, ""}, .modules_to_save = {"score"}},
                HeadKind::kScore);
  const json line = merge(0, {{"output_dir", "merged"}, {"dtype", "float32"}});
  EXPECT_EQ(line["rounding"]["max_reward_difference"], 0.0);
  const std::vector<std::string> tail = {"--data", "pairs.jsonl", "--threads", "1"};
  std::vector<std::string> merged = {"score", "--model", "merged"},
                           with_adapter = {"score", "--model", "model", "--adapter", "adapter"};
  merged.insert(merged.end(), tail.begin(), tail.end());
  with_adapter.insert(with_adapter.end(), tail.begin(), tail.end());
  const RunResult a = run(0, merged), b = run(2, with_adapter);
  EXPECT_EQ(a.exit_code, 0) << a.err;
  EXPECT_EQ(b.exit_code, 0) << b.err;
  EXPECT_FALSE(a.out.empty());
  EXPECT_EQ(a.out, b.out);
}

TEST_F(Merge, GeneratesWithAnAdapter) {
  write_adapter(kLora);
  merge(0, {{"output_dir", "merged"}, {"dtype", "float32"}});
  const auto generate = [&](std::vector<std::string> model) {
    model.insert(model.begin(), "generate");
    model.insert(model.end(), {"--prompt", "What", "--max_new_tokens", "12", "--threads", "1"});
    const RunResult result = run(0, model);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  const std::string expected = generate({"--model", "merged"});
  EXPECT_EQ(generate({"--model", "model", "--adapter", "adapter"}), expected);
  EXPECT_NE(generate({"--model", "model"}), expected);
}

TEST_F(Merge, RefusesMismatches) {
  write_adapter(kLora);
  const auto refuse = [&](const Options& changed, int code, const std::string& said) {
    Options options = {{"model", "model"}, {"adapter", "adapter"}, {"output_dir", "merged"}, {"threads", "1"}};
    for (const auto& [name, value] : changed) options[name] = value;
    for (const int num_ranks : {0, 2}) {
      const RunResult result = run(num_ranks, command_line("merge", options));
      EXPECT_EQ(result.exit_code, code) << result.err;
      EXPECT_NE(result.err.find(said), std::string::npos) << result.err;
    }
    EXPECT_FALSE(exists("merged"));
    EXPECT_TRUE(unfinished_files().empty());
  };
  refuse({{"adapter", "absent"}}, 74, "absent");
  refuse({{"model", "adapter"}}, 74, "this is an adapter");
  refuse({{"adapter", "model"}}, 74, "this is a model");
  refuse({{"dtype", "float16"}}, 2, "bfloat16");
  std::filesystem::rename(directory_ / "adapter/adapter_model.safetensors", directory_ / "adapter/adapter_model.bin");
  refuse({}, 65, "pickled");
}

}  // namespace
}  // namespace plumb::test
