// The exported model is the trained model: reading it back gives the same bytes and the same loss.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

using nlohmann::json;

class Export : public ProgramTest {
 protected:
  /// One step with learning rate 0, so that the exported weights equal the input.
  RunResult copy_model(int num_ranks, const std::string& from, const std::string& to, Options options = {}) const {
    options.insert({{"model", from}, {"output_dir", to}, {"max_steps", "1"}, {"learning_rate", "0"}});
    RunResult result = sft(num_ranks, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result;
  }
  std::vector<std::string> names_in(const std::string& directory) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / directory))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  void expect_same_files(const std::string& got, const std::string& expected) const {
    ASSERT_EQ(names_in(got), names_in(expected));
    for (const std::string& name : names_in(got))
      EXPECT_TRUE(directory_.read(got + "/" + name) == directory_.read(expected + "/" + name)) << name << " differs";
  }
};

TEST_F(Export, OfATrainedModelReadsBackToTheByte) {
  ASSERT_EQ(sft(2, {{"learning_rate", "0.001"}}).exit_code, 0);
  ASSERT_NE(directory_.read("out/model/model.safetensors"), directory_.read("model/model.safetensors"));
  copy_model(0, "out/model", "again");
  expect_same_files("again/model", "out/model");
  copy_model(3, "out/model", "on_three");
  expect_same_files("on_three/model", "out/model");
}

TEST_F(Export, EvaluatesAsTheRunDidAtItsLastStep) {
  directory_.write("eval.jsonl", rows(20));
  ASSERT_EQ(sft(2, {{"learning_rate", "0.001"}, {"eval_data", "eval.jsonl"}}).exit_code, 0);
  const json logged = metrics("eval_loss").back();
  ASSERT_EQ(logged["step"], 2);
  for (const int num_ranks : {0, 3}) {
    const RunResult result =
        run(num_ranks, {"evaluate", "--model", "out/model", "--data", "eval.jsonl", "--threads", "1"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const json evaluated = json::parse(result.out);
    EXPECT_EQ(evaluated["rows"], 20);
    EXPECT_EQ(evaluated["num_tokens"], logged["eval_num_tokens"]);
    for (const char* key : {"loss", "perplexity", "mean_token_accuracy", "entropy"}) {
      const auto expected = logged["eval_" + std::string(key)].get<double>();
      EXPECT_NEAR(evaluated[key].get<double>(), expected, 1e-12 * expected) << key;
    }
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }
}

struct Family {
  const char* name;
  const char* ties_embeddings;
};

TEST_F(Export, OfEveryFamilyKeepsNamesConfigAndBytes) {
  for (const Family& family : {Family{"llama", "true"}, {"mistral", "false"}, {"qwen2", "true"}, {"qwen3", "false"}}) {
    const std::string source = family.name, target = source + "_out";
    const RunResult made = run(
        0, {"init", "--output_dir", source, "--family", family.name, "--tie_word_embeddings", family.ties_embeddings,
            "--hidden_size", "32", "--num_layers", "2", "--num_heads", "4", "--num_kv_heads", "2", "--head_dim", "8"});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    copy_model(3, source, target);
    expect_same_files(target + "/model", source);
  }
}

TEST_F(Export, InBfloat16IsHalfAsLargeAndReadsBackToTheByte) {
  copy_model(0, "model", "half", {{"save_dtype", "bfloat16"}});
  EXPECT_EQ(json::parse(directory_.read("half/model/config.json"))["dtype"], "bfloat16");
  const auto size = [&](const std::string& name) { return static_cast<double>(directory_.read(name).size()); };
  EXPECT_NEAR(size("half/model/model.safetensors") / size("model/model.safetensors"), 0.5, 0.01);
  copy_model(2, "half/model", "again", {{"save_dtype", "bfloat16"}});
  expect_same_files("again/model", "half/model");
}

TEST_F(Export, CopiesOtherFilesAndKeysOfTheSource) {
  json config = json::parse(directory_.read("model/config.json"));
  config["_key_of_tomorrow"] = "kept";
  directory_.write("model/config.json", config.dump());
  directory_.write("model/generation_config.json", R"({"temperature": 0.5, "eos_token_id": 256})");
  directory_.write("model/special_tokens_map.json", "{}");
  directory_.write("model/README.md", "of the source alone");
  directory_.write("model/pytorch_model.bin", "old");
  copy_model(0, "model", "out");
  EXPECT_EQ(json::parse(directory_.read("out/model/config.json"))["_key_of_tomorrow"], "kept");
  for (const char* name :
       {"generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"})
    EXPECT_EQ(directory_.read("out/model/" + std::string(name)), directory_.read("model/" + std::string(name))) << name;
  EXPECT_FALSE(exists("out/model/README.md"));
  EXPECT_FALSE(exists("out/model/pytorch_model.bin"));
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
}

/// A base as Qwen's are: <|im_end|> is in its vocabulary, EOS is another token, and there is no template.
TEST_F(Export, OfABaseEndsTheTurnsOfTheTemplate) {
  directory_.write("rows.jsonl", std::string(R"({"messages": [{"role": "user", "content": "a"},)") +
                                     R"({"role": "assistant", "content": "b"}]})");
  const auto read = [&](const std::string& name) { return json::parse(directory_.read(name)); };
  const Options chatml = {{"chat_template", "chatml"}};
  const RunResult trained = copy_model(2, "model", "out", chatml);
  EXPECT_EQ(lines_with(trained.err, "a turn of the assistant in <|im_end|>").size(), 1u) << trained.err;
  EXPECT_EQ(lines_with(trained.err, "trained end-of-text token").size(), 0u) << trained.err;
  EXPECT_EQ(read("out/model/generation_config.json")["eos_token_id"], json({256, 258}));
  EXPECT_EQ(read("out/model/config.json"), read("model/config.json"));
  EXPECT_TRUE(directory_.read("out/model/chat_template.jinja").find("<|im_start|>") != std::string::npos);
  EXPECT_EQ(lines_with(copy_model(0, "out/model", "again").err, "a turn of the assistant").size(), 0u);
  // a directory of a version that did not have the option
  nlohmann::ordered_json run_file = nlohmann::ordered_json::parse(directory_.read("out/run.json"));
  ASSERT_EQ(run_file["inputs"].erase("eos_token"), 1u) << run_file;
  directory_.write("out/run.json", run_file.dump());
  EXPECT_EQ(lines_with(copy_model(2, "model", "out", chatml).err, "already complete").size(), 1u);

  copy_model(2, "model", "lora", {{"chat_template", "chatml"}, {"eos_token", "<|im_end|>"}, {"lora_r", "2"}});
  EXPECT_EQ(read("lora/adapter/tokenizer_config.json")["eos_token"], "<|im_end|>");
  EXPECT_EQ(read("lora/adapter/generation_config.json")["eos_token_id"], json({258, 256}));
  const RunResult merged =
      run(0, {"merge", "--model", "model", "--adapter", "lora/adapter", "--output_dir", "merged", "--threads", "1"});
  ASSERT_EQ(merged.exit_code, 0) << merged.err;
  EXPECT_EQ(lines_with(merged.err, "lora/adapter has a tokenizer").size(), 1u) << merged.err;
  EXPECT_EQ(read("merged/config.json")["eos_token_id"], 258);
  for (const std::string name : {"chat_template.jinja", "generation_config.json", "tokenizer_config.json"})
    EXPECT_EQ(directory_.read("merged/" + name), directory_.read("lora/adapter/" + name));
}

/// The float32 tensors of a safetensors file, by name.
std::map<std::string, std::vector<float>> read_tensors(const std::string& bytes) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  std::map<std::string, std::vector<float>> tensors;
  const json header = json::parse(bytes.substr(8, header_bytes));
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const auto begin = entry.at("data_offsets")[0].get<size_t>(), end = entry.at("data_offsets")[1].get<size_t>();
    tensors[name].resize((end - begin) / sizeof(float));
    std::memcpy(tensors[name].data(), bytes.data() + 8 + header_bytes + begin, end - begin);
  }
  return tensors;
}

TEST_F(Export, ResizeAddsTokensAndLeavesTheRest) {
  ASSERT_EQ(run(0, {"init", "--output_dir", "untied", "--hidden_size", "32", "--num_layers", "1", "--num_heads", "2",
                    "--vocab_size", "260", "--tie_word_embeddings", "false"})
                .exit_code,
            0);
  const RunResult resized =
      run(0, {"resize", "--model", "untied", "--output_dir", "more", "--add_tokens", "<|im_start|>", "<|tool|>",
              "<|end|>", "--resize_embeddings", "264", "--chat_template", "chatml", "--eos_token", "<|end|>"});
  ASSERT_EQ(resized.exit_code, 0) << resized.err;
  for (const char* line : {"<|im_start|>: id 257, there already", "<|tool|>: id 260, a new row", "<|end|>: id 261",
                           "262 tokens, 264 rows of the embedding, 4 of them new"})
    EXPECT_EQ(lines_with(resized.err, line).size(), 1u) << resized.err;
  const auto before = read_tensors(directory_.read("untied/model.safetensors"));
  const auto after = read_tensors(directory_.read("more/model.safetensors"));
  for (const auto& [name, values] : before) {
    const std::vector<float>& now = after.at(name);
    EXPECT_TRUE(std::equal(values.begin(), values.end(), now.begin())) << name;
    if (name != "model.embed_tokens.weight" && name != "lm_head.weight") {
      EXPECT_EQ(now.size(), values.size()) << name;
      continue;
    }
    ASSERT_EQ(now.size(), 264u * 32u) << name;
    for (size_t column = 0; column < 32; ++column) {
      double mean = 0;
      for (size_t row = 0; row < 260; ++row) mean += values[row * 32 + column] / 260.0;
      for (size_t row = 260; row < 264; ++row) EXPECT_NEAR(now[row * 32 + column], mean, 1e-8) << name;
    }
  }
  EXPECT_EQ(json::parse(directory_.read("more/config.json"))["vocab_size"], 264);
  EXPECT_EQ(json::parse(directory_.read("more/generation_config.json"))["eos_token_id"], json({261, 256, 258}));
  EXPECT_EQ(json::parse(directory_.read("more/tokenizer_config.json"))["eos_token"], "<|end|>");
  ASSERT_EQ(sft(2, {{"model", "more"}}).exit_code, 0);
  EXPECT_EQ(json::parse(directory_.read("out/model/config.json"))["vocab_size"], 264);
  EXPECT_EQ(directory_.read("out/model/tokenizer.json"), directory_.read("more/tokenizer.json"));
}

TEST_F(Export, ResizeRefusesWhatItCannotMean) {
  const auto resize = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"resize", "--model", "model", "--output_dir", "more"});
    return run(0, more);
  };
  expect_refused(resize({}), 2, {"at least one of --add_tokens"});
  expect_refused(resize({"--add_tokens", "<x>", "<x>"}), 2, {"<x> is given twice"});
  expect_refused(resize({"--add_tokens", "a"}), 65, {"a is an ordinary token"});
  expect_refused(resize({"--resize_embeddings", "10"}), 2, {"expected at least 320", "never dropped"});
  expect_refused(resize({"--add_tokens", "<x>", "--eos_token", "<y>"}), 2, {"<y>"});
  expect_refused(run(0, {"resize", "--model", "model", "--output_dir", "model", "--add_tokens", "<x>"}), 2,
                 {"model: expected a new or empty directory"});
  EXPECT_FALSE(exists("more"));
}

TEST_F(Export, WritesTheSameGgufFileFromAnyNumberOfRanks) {
  const auto to_gguf = [&](int num_ranks, const std::string& file, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"export", "--model", "model", "--gguf", file, "--gguf_type", "q8_0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(num_ranks, arguments);
  };
  const RunResult alone = to_gguf(0, "alone.gguf");
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_EQ(lines_with(alone.err, "warning").size(), 0u) << alone.err;
  directory_.write("on_three.gguf", "another file");
  expect_refused(to_gguf(3, "on_three.gguf"), 2, {"--gguf on_three.gguf: expected a new file", "--overwrite"});
  ASSERT_EQ(to_gguf(3, "on_three.gguf", {"--overwrite"}).exit_code, 0);
  const std::string bytes = directory_.read("alone.gguf");
  EXPECT_TRUE(bytes.starts_with("GGUF"));
  EXPECT_TRUE(directory_.read("on_three.gguf") == bytes);
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  expect_refused(to_gguf(0, "model"), 2, {"--gguf model: expected a file to write, got a directory"});
  expect_refused(to_gguf(0, "none/model.gguf"), 74, {"none/model.gguf"});
}

TEST_F(Export, MergesAnAdapterIntoTheGgufFile) {
  ASSERT_EQ(sft(2, {{"lora_r", "2"}, {"learning_rate", "0.1"}}).exit_code, 0);
  ASSERT_EQ(run(0, {"merge", "--model", "model", "--adapter", "out/adapter", "--output_dir", "same/model", "--dtype",
                    "float32"})
                .exit_code,
            0);
  ASSERT_EQ(run(0, {"export", "--model", "model", "--adapter", "out/adapter", "--gguf", "merged.gguf"}).exit_code, 0);
  ASSERT_EQ(run(0, {"export", "--model", "same/model", "--gguf", "same.gguf"}).exit_code, 0);
  ASSERT_EQ(run(0, {"export", "--model", "model", "--gguf", "base.gguf"}).exit_code, 0);
  EXPECT_TRUE(directory_.read("merged.gguf") == directory_.read("same.gguf"));
  EXPECT_FALSE(directory_.read("merged.gguf") == directory_.read("base.gguf"));
}

}  // namespace
}  // namespace plumb::test
