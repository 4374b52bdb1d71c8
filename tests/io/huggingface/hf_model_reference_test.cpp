// Reads models that transformers wrote, and writes them again.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/hf_export.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

struct ReferenceModel {
  const char* name;
  Family family;
  RopeConfig::Kind rope_kind;
  double rope_theta;
  int64_t head_dim;
  int64_t sliding_window;
};

constexpr ReferenceModel kModels[] = {
    {"stories260K", Family::kLlama, RopeConfig::Kind::kDefault, 1e4, 8, 0},
    {"stories260K-rm", Family::kLlama, RopeConfig::Kind::kDefault, 1e4, 8, 0},
    {"tiny-llama3", Family::kLlama, RopeConfig::Kind::kLlama3, 5e5, 16, 0},
    {"tiny-mistral", Family::kMistral, RopeConfig::Kind::kDefault, 1e4, 32, 48},
    {"tiny-qwen2", Family::kQwen2, RopeConfig::Kind::kDefault, 1e4, 16, 0},
    {"tiny-qwen3", Family::kQwen3, RopeConfig::Kind::kDefault, 1e4, 32, 0},
};

class ReferenceModels : public testing::TestWithParam<ReferenceModel> {
 protected:
  void SetUp() override { SKIP_WITHOUT_REFERENCE_RECORDS(); }
  const std::string path_ = test::reference_file(std::string("models/") + GetParam().name);
};

TEST_P(ReferenceModels, HaveTheParameterCountsOfTheirConfig) {
  const HfModel model(path_);
  const ModelConfig& config = model.config();
  const json source = json::parse(read_text_file(path_ + "/config.json", 1 << 20));
  EXPECT_EQ(config.family, GetParam().family);
  EXPECT_EQ(config.vocab_size, source.at("vocab_size"));
  EXPECT_EQ(config.hidden_size, source.at("hidden_size"));
  EXPECT_EQ(config.intermediate_size, source.at("intermediate_size"));
  EXPECT_EQ(config.num_layers, source.at("num_hidden_layers"));
  EXPECT_EQ(config.num_heads, source.at("num_attention_heads"));
  EXPECT_EQ(config.num_kv_heads, source.at("num_key_value_heads"));
  EXPECT_EQ(config.max_position_embeddings, source.at("max_position_embeddings"));
  EXPECT_EQ(config.norm.epsilon, source.at("rms_norm_eps"));
  EXPECT_EQ(config.ties_embeddings, source.at("tie_word_embeddings"));
  EXPECT_EQ(config.initializer_range, source.at("initializer_range"));
  EXPECT_EQ(config.bos_token_id, source.at("bos_token_id"));
  EXPECT_EQ(config.eos_token_ids, std::vector<int32_t>{source.at("eos_token_id")});
  EXPECT_EQ(config.head_dim, GetParam().head_dim);
  EXPECT_EQ(config.rope.kind, GetParam().rope_kind);
  EXPECT_EQ(config.rope.theta, GetParam().rope_theta);
  EXPECT_EQ(config.sliding_window, std::vector<int64_t>(config.num_layers, GetParam().sliding_window));
  EXPECT_EQ(config.has_qkv_bias, config.family == Family::kQwen2);
  EXPECT_EQ(config.qk_norm == QkNorm::kHead, config.family == Family::kQwen3);
  EXPECT_FALSE(config.has_o_bias);
  if (config.rope.kind == RopeConfig::Kind::kLlama3) {
    EXPECT_EQ(config.rope.factor, 8.0);
    EXPECT_EQ(config.rope.low_freq_factor, 1.0);
    EXPECT_EQ(config.rope.high_freq_factor, 4.0);
    EXPECT_EQ(config.rope.original_max_position_embeddings, 64);
  }
}

/// Also with experts, which files hold one by one or, of gpt-oss, fused.
class WrittenModels : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { SKIP_WITHOUT_REFERENCE_RECORDS(); }
  const std::string path_ = test::reference_file(std::string("models/") + GetParam());
};

TEST_P(WrittenModels, ReadTheSameForAnySplit) {
  const HfModel model(path_);
  for (const UnitLayout& unit : model.units()) {
    const std::vector<float> whole = read_whole_unit(model, unit);
    std::vector<float> pieces(whole.size(), -1.0f);
    for (int64_t begin = 0; begin < unit.num_elements;) {
      const int64_t end = std::min(begin + 4099 + begin % 13, unit.num_elements);
      model.read_unit_range(unit, begin, end, std::span(pieces).subspan(begin, end - begin));
      begin = end;
    }
    EXPECT_EQ(pieces, whole) << unit.name;
    EXPECT_NE(whole, std::vector<float>(whole.size())) << unit.name;
  }
}

TEST_P(WrittenModels, ExportToTheSameBytes) {
  const HfModel model(path_);
  const TemporaryDirectory directory;
  const std::string target = directory / "model";
  const ExportPlan plan = plan_export(model.units(), Dtype::kF32, 200'000);
  AtomicDirectory draft(target);
  const std::string temporary = draft.temporary_path();
  create_export_files(plan, temporary);
  for (size_t u = 0; u < model.units().size(); ++u) {
    const UnitLayout& unit = model.units()[u];
    for (int64_t begin = 0; begin < unit.num_elements; begin += 9001) {
      std::vector<float> values(9001);
      model.read_unit_range(unit, begin, begin + 9001, values);
      write_unit_range(plan, temporary, u, begin, begin + 9001, values);
    }
  }
  finish_export(plan, temporary, model.config(), {.tokenizer = {path_}});
  draft.publish();

  const HfModel exported(target);
  const SafetensorsFile original(path_ + "/model.safetensors");
  size_t num_compared = 0;
  for (const ExportFile& planned : plan.files) {
    const SafetensorsFile file(target + "/" + planned.name);
    for (const SafetensorsEntry& entry : file.entries()) {
      const SafetensorsEntry& expected = original.at(entry.name);
      ASSERT_EQ(entry.shape, expected.shape);
      std::vector<std::byte> ours(entry.num_bytes()), theirs(expected.num_bytes());
      file.read(entry, 0, std::span(ours));
      original.read(expected, 0, std::span(theirs));
      EXPECT_TRUE(ours == theirs) << entry.name;
      ++num_compared;
    }
  }
  EXPECT_EQ(num_compared, original.entries().size());
  EXPECT_EQ(directory.read("model/tokenizer.json"), read_text_file(path_ + "/tokenizer.json", 1 << 24));
}

INSTANTIATE_TEST_SUITE_P(All, ReferenceModels, testing::ValuesIn(kModels), [](const auto& reference) {
  std::string name = reference.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});
INSTANTIATE_TEST_SUITE_P(All, WrittenModels,
                         testing::Values("stories260K", "stories260K-rm", "tiny-llama3", "tiny-mistral", "tiny-qwen2",
                                         "tiny-qwen3", "tiny-mixtral", "tiny-qwen2_moe", "tiny-qwen3_moe",
                                         "tiny-gpt_oss"));

TEST(ExpertFiles, OfEverySpellingHoldTheSameModel) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::pair<const char*, const char*> pairs[] = {{"tiny-mixtral", "tiny-mixtral-hub"},
                                                       {"tiny-mixtral", "tiny-mixtral-fused"},
                                                       {"tiny-gpt_oss", "tiny-gpt_oss-hub"}};
  for (const auto& [name, other_name] : pairs) {
    SCOPED_TRACE(other_name);
    const HfModel model(test::reference_file(std::string("models/") + name));
    const HfModel other(test::reference_file(std::string("models/") + other_name));
    EXPECT_EQ(render_model_config(other.config(), "float32"), render_model_config(model.config(), "float32"));
    for (const UnitLayout& unit : model.units())
      EXPECT_EQ(read_whole_unit(other, unit), read_whole_unit(model, unit)) << unit.name;
  }
}

}  // namespace
}  // namespace plumb
