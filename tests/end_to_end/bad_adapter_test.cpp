// Invalid options, adapters and quantized checkpoints are refused: exit code, message, no partial output.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

class BadAdapter : public ProgramTest {
 protected:
  void make_adapter() const {
    ASSERT_EQ(sft(0, {{"lora_r", "4"}, {"max_steps", "1"}, {"output_dir", "made"}}).exit_code, 0);
    fs::rename(directory_ / "made/adapter", directory_ / "adapter");
    fs::remove_all(directory_ / "made");
  }
  void quantize() const { ASSERT_EQ(run(0, {"quantize", "--model", "model", "--output_dir", "nf4"}).exit_code, 0); }
  void make_model(const std::string& name, const Options& changed) const {
    Options options = {
        {"output_dir", name}, {"hidden_size", "32"}, {"num_layers", "2"}, {"num_kv_heads", "2"}, {"num_heads", "4"}};
    for (const auto& [option, value] : changed) options[option] = value;
    ASSERT_EQ(run(0, command_line("init", options)).exit_code, 0);
  }
  void replace_text(const std::string& file, const std::string& from, const std::string& to) const {
    std::string text = directory_.read(file);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " in " << file;
    directory_.write(file, text.replace(at, from.size(), to));
  }
  /// Replaces the bytes of a tensor of the quantized model.
  void replace_tensor(const std::string& name, const std::function<std::string(const std::string&)>& change) const {
    const std::string path = "nf4/model.safetensors", text = directory_.read(path);
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, text.data(), sizeof header_bytes);
    const std::string data = text.substr(8 + header_bytes);
    ordered_json header = ordered_json::parse(text.substr(8, header_bytes));
    ASSERT_TRUE(header.contains(name)) << header.dump();
    std::string changed_data;
    for (auto& [key, entry] : header.items()) {
      if (key == "__metadata__") continue;
      const auto begin = entry["data_offsets"][0].get<size_t>(), end = entry["data_offsets"][1].get<size_t>();
      std::string bytes = data.substr(begin, end - begin);
      if (key == name) {
        bytes = change(bytes);
        entry["shape"] = {bytes.size()};  // of bytes
      }
      entry["data_offsets"] = {changed_data.size(), changed_data.size() + bytes.size()};
      changed_data += bytes;
    }
    const std::string changed_header = header.dump();
    header_bytes = changed_header.size();
    std::string changed(8, '\0');
    std::memcpy(changed.data(), &header_bytes, sizeof header_bytes);
    directory_.write(path, changed + changed_header + changed_data);
  }
};

TEST_F(BadAdapter, InvalidOptionsAreRefused) {
  const auto refused = [&](const Options& options, const std::vector<std::string>& parts) {
    expect_refused(sft(0, options), 2, parts);
  };
  refused({{"quantize", "nf4"}}, {"--quantize nf4: a quantized model is frozen", "give --lora_r"});
  refused({{"quantize", "int8"}, {"lora_r", "4"}}, {"--quantize int8: expected one of none, nf4"});
  refused({{"adapter", "adapter"}, {"lora_r", "4"}}, {"--adapter adapter:", "leave out --lora_r"});
  refused({{"lora_r", "4"}, {"lora_dropout", "1"}}, {"--lora_dropout: expected 0 to below 1, got 1"});
  refused({{"lora_r", "4"}, {"lora_target_modules", "q_prj"}},
          {"target_modules: q_prj: no such module", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
           "all-linear", "did you mean q_proj?"});
  refused({{"lora_r", "4"}, {"lora_target_modules", ".*foo"}},
          {"target_modules: expected a layer to adapt, got none that matches", "v_proj in 2 layers"});
  refused({{"lora_r", "4"}, {"lora_target_modules", ".*(foo"}},
          {"target_modules: expected a regular expression, got '.*(foo'"});
  refused({{"lora_r", "4"}, {"lora_modules_to_save", "norm"}},
          {"modules_to_save: norm: expected one of embed_tokens, lm_head, score"});
}

TEST_F(BadAdapter, TheHeadOfATiedBaseIsTrainedAndMergedApart) {
  make_model("tied", {{"tie_word_embeddings", "true"}});
  ASSERT_EQ(sft(2, {{"model", "tied"}, {"lora_r", "40"}, {"lora_modules_to_save", "lm_head"}, {"output_dir", "made"}})
                .exit_code,
            0);
  ASSERT_EQ(run(0, {"merge", "--model", "tied", "--adapter", "made/adapter", "--output_dir", "merged"}).exit_code, 0);
  EXPECT_EQ(ordered_json::parse(directory_.read("merged/config.json")).at("tie_word_embeddings"), false);
  ASSERT_EQ(sft(1, {{"model", "tied"}, {"adapter", "made/adapter"}, {"output_dir", "again"}}).exit_code, 0);
}

TEST_F(BadAdapter, OfAnotherBaseIsRefusedByAllCommands) {
  make_adapter();
  make_model("wide", {{"hidden_size", "64"}});
  make_model("deep", {{"num_layers", "3"}});
  const std::vector<std::string> wide = {"adapter/adapter_model.safetensors: expected the 16 tensors",
                                         "layers.0.self_attn.q_proj.lora_A.weight", "of [4, 64], got F32 of [4, 32]",
                                         "is the adapter one of another base?"};
  expect_refused(sft(2, {{"model", "wide"}, {"adapter", "adapter"}}), 65, wide);
  expect_refused(run(0, {"merge", "--model", "wide", "--adapter", "adapter", "--output_dir", "merged"}), 65, wide);
  expect_refused(run(0, {"evaluate", "--model", "wide", "--adapter", "adapter", "--data", "rows.jsonl"}), 65, wide);
  expect_refused(run(2, {"merge", "--model", "deep", "--adapter", "adapter", "--output_dir", "merged"}), 65,
                 {"8 missing: base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", "another base?"});
  EXPECT_FALSE(exists("merged"));
}

TEST_F(BadAdapter, CorruptFilesAreRefused) {
  make_adapter();
  const Options options = {{"adapter", "adapter"}};
  const std::string weights = "adapter/adapter_model.safetensors", config = "adapter/adapter_config.json";
  const std::string good_weights = directory_.read(weights), good_config = directory_.read(config);
  directory_.write(weights, good_weights.substr(0, good_weights.size() - 10));
  expect_refused(sft(2, options), 65, {weights, "is the file truncated?"});
  directory_.write(weights, "");
  expect_refused(sft(0, options), 65, {weights, "got 0"});
  fs::rename(directory_ / weights, directory_ / "adapter/adapter_model.bin");
  expect_refused(sft(0, options), 65, {"adapter: expected weights in adapter_model.safetensors", "never read"});
  directory_.write(weights, good_weights);

  replace_text(config, "\"r\": 4", "\"r\": 8");
  expect_refused(sft(0, options), 65, {weights, "16 of another shape", "of [8, 32], got F32 of [4, 32]"});
  directory_.write(config, good_config);
  replace_text(config, "\"q_proj\"", "\"q_prj\"");
  expect_refused(sft(0, options), 65, {weights, "4 not of this adapter", "q_proj.lora_A"});
  directory_.write(config, good_config);
  expect_refused(sft(0, {{"adapter", "model"}}), 74, {"model: expected an adapter directory", "give it as --model"});
  expect_refused(sft(0, {{"model", "adapter"}, {"lora_r", "4"}}), 74, {"this is an adapter", "--adapter"});
}

TEST_F(BadAdapter, AQuantizedModelNeedsAnAdapter) {
  quantize();
  for (const std::string stage : {"sft", "reward", "dpo"})
    expect_refused(train(stage, 2, {{"model", "nf4"}}), 2, {"nf4: a quantized model is frozen; give --lora_r"});
}

TEST_F(BadAdapter, CorruptQuantizedMatricesAreRefused) {
  quantize();
  const std::string good = directory_.read("nf4/model.safetensors");
  const std::string matrix = "model.layers.0.self_attn.q_proj.weight";
  const Options options = {{"model", "nf4"}, {"lora_r", "4"}};
  replace_tensor(matrix + ".absmax", [](const std::string& bytes) { return bytes.substr(0, bytes.size() - 3); });
  expect_refused(sft(2, options), 65,
                 {"nf4/model.safetensors: tensor " + matrix + ".absmax: expected U8 of [16], got U8 of [13]"});
  directory_.write("nf4/model.safetensors", good);
  replace_tensor(matrix + ".quant_state.bitsandbytes__nf4", [](const std::string& bytes) {
    ordered_json state = ordered_json::parse(bytes);
    state["blocksize"] = 128;
    return state.dump();
  });
  const std::vector<std::string> block_size = {matrix + ".quant_state.bitsandbytes__nf4: blocksize: expected 64",
                                               "got 128"};
  expect_refused(sft(0, options), 65, block_size);
  expect_refused(run(0, {"evaluate", "--model", "nf4", "--data", "rows.jsonl"}), 65, block_size);
  directory_.write("nf4/model.safetensors", good.substr(0, good.size() - 100));
  expect_refused(sft(0, options), 65, {"nf4/model.safetensors: tensor", "is the file truncated?"});
}

}  // namespace
}  // namespace plumb::test
