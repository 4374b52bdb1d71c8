// Adapters of embedding and head, rows of them, and parameters of the base in an adapter's file, merged by HfModel.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "io/file/atomic_directory.hpp"
#include "io/huggingface/adapter_init.hpp"
#include "io/huggingface/merged_weights.hpp"
#include "io/huggingface/peft_export.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using enum ParameterKind;

constexpr const char* kEmbedding_ = "base_model.model.model.embed_tokens";
constexpr const char* kHead_ = "base_model.model.lm_head";

class OuterParts : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(directory_ / "adapter");
    write_tiny_model(directory_, model_);
    base_ = tiny_tensors(model_).at("model.embed_tokens.weight").values;
    add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 12});
    add("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", {12, 2});
  }
  TinyTensor& add(const std::string& name, const std::vector<int64_t>& shape) {
    TinyTensor& tensor = tensors_[name];
    tensor.shape = shape;
    for (int64_t i = 0; i < shape[0] * (shape.size() > 1 ? shape[1] : 1); ++i)
      tensor.values.push_back(std::sin(static_cast<float>(++serial_)) + 0.01f);
    return tensor;
  }
  void write() {
    config_.layers_to_transform =
        config_.target_modules.names.size() == 1 ? std::vector<int64_t>{0} : std::vector<int64_t>{};
    directory_.write("adapter/adapter_config.json", render_lora_config(config_));
    write_tiny_weights(directory_ / "adapter/adapter_model.safetensors", tensors_);
  }
  HfModel merged() {
    write();
    return HfModel(directory_.path(), {.adapter = directory_ / "adapter"});
  }
  std::string refusal() {
    write();
    return message_of<DataError>([&] { HfModel(directory_.path(), {.adapter = directory_ / "adapter"}); });
  }
  /// The values of embedding or head, read in pieces.
  static std::vector<float> read(const HfModel& model, ParameterKind kind, int64_t piece = 37) {
    for (const UnitLayout& unit : model.units())
      for (const Parameter& parameter : unit.parameters) {
        if (parameter.kind != kind) continue;
        std::vector<float> values(parameter.num_elements());
        for (int64_t begin = 0; begin < std::ssize(values); begin += piece) {
          const int64_t end = std::min(begin + piece, std::ssize(values));
          model.read_unit_range(unit, parameter.offset + begin, parameter.offset + end,
                                std::span(values).subspan(begin, end - begin));
        }
        return values;
      }
    return {};
  }

  const ModelConfig model_ = tiny_config(Family::kLlama, true);  // [11, 12]
  const TemporaryDirectory directory_;
  LoraConfig config_ = {.r = 2, .lora_alpha = 6, .target_modules = {{"q_proj"}, ""}};
  TinyTensors tensors_;
  std::vector<float> base_;
  int64_t serial_ = 0;
};

TEST_F(OuterParts, LowRankAdaptersOfEmbeddingAndHeadUntieThem) {
  config_.target_modules.names = {"embed_tokens", "lm_head"};
  config_.rank_pattern = {{"lm_head", 3}};
  tensors_.clear();
  const TinyTensor a = add(std::string(kEmbedding_) + ".lora_embedding_A", {2, 11});
  const TinyTensor b = add(std::string(kEmbedding_) + ".lora_embedding_B", {12, 2});
  const TinyTensor head_a = add(std::string(kHead_) + ".lora_A.weight", {3, 12});
  const TinyTensor head_b = add(std::string(kHead_) + ".lora_B.weight", {11, 3});
  const HfModel model = merged();
  EXPECT_FALSE(model.config().ties_embeddings);
  const std::vector<float> embedding = read(model, kEmbedding), head = read(model, kHead);
  for (int64_t v = 0; v < 11; ++v)
    for (int64_t d = 0; d < 12; ++d) {
      double of_embedding = base_[v * 12 + d], of_head = base_[v * 12 + d];
      for (int64_t r = 0; r < 2; ++r) of_embedding += 3.0 * a.values[r * 11 + v] * b.values[d * 2 + r];
      for (int64_t r = 0; r < 3; ++r) of_head += 2.0 * head_b.values[v * 3 + r] * head_a.values[r * 12 + d];
      ASSERT_NEAR(embedding[v * 12 + d], of_embedding, 1e-4);
      ASSERT_NEAR(head[v * 12 + d], of_head, 1e-4);
    }
  EXPECT_EQ(read(model, kEmbedding, 1), embedding);
}

TEST_F(OuterParts, OneAdapterIsBesideBothWhereTyingIsEnsured) {
  config_.target_modules.names = {"embed_tokens", "lm_head"};
  config_.ensures_tying = true;
  tensors_.clear();
  const TinyTensor a = add(std::string(kEmbedding_) + ".lora_embedding_A", {2, 11});
  const TinyTensor b = add(std::string(kEmbedding_) + ".lora_embedding_B", {12, 2});
  const std::vector<float> alone = read(merged(), kEmbedding);
  EXPECT_NE(alone, base_);
  TinyTensor& head_a = tensors_[std::string(kHead_) + ".lora_A.weight"];  // as PEFT saves it: the transposes
  head_a.shape = {2, 12};
  for (int64_t r = 0; r < 2; ++r)
    for (int64_t d = 0; d < 12; ++d) head_a.values.push_back(b.values[d * 2 + r]);
  EXPECT_TRUE(merged().config().ties_embeddings);
  EXPECT_EQ(read(merged(), kEmbedding), alone);
  head_a.values[5] += 1;
  expect_contains(refusal(), {"lm_head.lora_A.weight", "lora_embedding_B", "one matrix in this base, got others"});
}

TEST_F(OuterParts, WholeModulesOfATiedBaseAreTwo) {
  config_.modules_to_save = {"embed_tokens"};
  const TinyTensor embedding = add(std::string(kEmbedding_) + ".weight", {11, 12});
  HfModel model = merged();
  EXPECT_FALSE(model.config().ties_embeddings);
  EXPECT_EQ(read(model, kEmbedding), embedding.values);
  EXPECT_EQ(read(model, kHead), base_);
  config_.modules_to_save = {"embed_tokens", "lm_head"};
  const TinyTensor head = add(std::string(kHead_) + ".weight", {11, 12});
  EXPECT_EQ(read(merged(), kHead), head.values);
  config_.ensures_tying = true;
  expect_contains(refusal(), {"lm_head.weight", "one matrix"});
  tensors_[std::string(kHead_) + ".weight"] = embedding;
  EXPECT_TRUE(merged().config().ties_embeddings);
  EXPECT_EQ(read(merged(), kEmbedding), embedding.values);
}

TEST_F(OuterParts, RowsTakeThePlaceOfTheBases) {
  const std::vector<int64_t> tokens = {9, 3};
  const auto expect_rows = [&](const std::vector<float>& values, const TinyTensor& rows) {
    std::vector<float> expected = base_;
    for (size_t i = 0; i < tokens.size(); ++i)
      std::copy_n(rows.values.begin() + static_cast<ptrdiff_t>(i) * 12, 12, expected.begin() + tokens[i] * 12);
    EXPECT_EQ(values, expected);
  };
  config_.token_rows = {{"embed_tokens", tokens}};
  const TinyTensor rows = add(std::string(kEmbedding_) + ".token_adapter.trainable_tokens_delta", {2, 12});
  EXPECT_TRUE(merged().config().ties_embeddings);
  for (const int64_t piece : {1, 7, 1000}) expect_rows(read(merged(), kEmbedding, piece), rows);
  config_.token_rows = {{"lm_head", tokens}};
  expect_contains(refusal(), {"lm_head.token_adapter.trainable_tokens_delta", "1 missing"});
  tensors_.erase(std::string(kEmbedding_) + ".token_adapter.trainable_tokens_delta");
  const TinyTensor of_head = add(std::string(kHead_) + ".token_adapter.trainable_tokens_delta", {2, 12});
  const HfModel model = merged();
  EXPECT_EQ(read(model, kEmbedding), base_);
  expect_rows(read(model, kHead), of_head);
}

TEST_F(OuterParts, ResizedEmbeddingsAreReadFromTheAdapter) {
  const TinyTensor resized = add(std::string(kEmbedding_) + ".weight", {13, 12});
  tensors_[std::string(kHead_) + ".weight"] = resized;  // PEFT saves both
  HfModel model = merged();
  EXPECT_EQ(model.config().vocab_size, 13);
  EXPECT_TRUE(model.config().ties_embeddings);
  EXPECT_EQ(read(model, kEmbedding), resized.values);
  tensors_[std::string(kHead_) + ".weight"].values[4] += 1;
  expect_contains(refusal(), {"lm_head.weight", "one matrix"});

  // under trained rows and beside what they were before
  tensors_.erase(std::string(kHead_) + ".weight");
  tensors_.erase(std::string(kEmbedding_) + ".weight");
  tensors_[std::string(kEmbedding_) + ".token_adapter.base_layer.weight"] = resized;
  config_.token_rows = {{"embed_tokens", {12}}};
  const TinyTensor row = add(std::string(kEmbedding_) + ".token_adapter.trainable_tokens_delta", {1, 12});
  const std::vector<float> values = read(merged(), kEmbedding);
  EXPECT_TRUE(std::equal(values.begin(), values.end() - 12, resized.values.begin()));
  EXPECT_TRUE(std::equal(values.end() - 12, values.end(), row.values.begin()));
}

TEST_F(OuterParts, WhatReplacesAMatrixThatTheBaseTiesReplacesBoth) {
  config_.target_modules.names = {"lm_head"};
  tensors_.clear();
  const TinyTensor resized = add(std::string(kHead_) + ".base_layer.weight", {13, 12});
  add(std::string(kHead_) + ".lora_A.weight", {2, 12});
  add(std::string(kHead_) + ".lora_B.weight", {13, 2});
  config_.target_modules.names.push_back("v_proj");
  for (const char* layer : {"0", "1"}) {
    add(std::string("base_model.model.model.layers.") + layer + ".self_attn.v_proj.lora_A.weight", {2, 12});
    add(std::string("base_model.model.model.layers.") + layer + ".self_attn.v_proj.lora_B.weight", {6, 2});
  }
  const HfModel model = merged();
  EXPECT_EQ(read(model, kEmbedding), resized.values);
  EXPECT_NE(read(model, kHead), resized.values);
}

TEST_F(OuterParts, OtherModulesMayBeTrainedWhole) {
  config_.modules_to_save = {"layers.1.input_layernorm"};
  const TinyTensor norm = add("base_model.model.model.layers.1.input_layernorm.weight", {12});
  const HfModel model = merged();
  const Parameter& parameter = model.units()[2].parameters.front();
  ASSERT_EQ(parameter.kind, kInputNorm);
  std::vector<float> values(12);
  model.read_unit_range(model.units()[2], parameter.offset, parameter.offset + 12, values);
  EXPECT_EQ(values, norm.values);
  tensors_["base_model.model.model.layers.1.input_layernorm.weight"].shape = {4, 3};
  expect_contains(refusal(), {"input_layernorm.weight", "of [12]", "got F32 of [4, 3]"});
  config_.modules_to_save = {"norm"};  // also the end of the names of the blocks' norms
  expect_contains(refusal(), {"model.norm.weight", "as modules_to_save says, got none"});
}

TEST_F(OuterParts, AreWrittenUnderTheHeadsNamesTooWhereItIsTheEmbedding) {
  config_.ensures_tying = true;
  for (const bool is_whole : {false, true}) {
    config_.modules_to_save = is_whole ? std::vector<std::string>{"lm_head"} : std::vector<std::string>{};
    config_.target_modules.names = {"q_proj"};
    if (!is_whole) config_.target_modules.names.insert(config_.target_modules.names.begin(), "embed_tokens");
    const UnitLayout unit = adapter_layout(model_, resolve_adapter(config_, model_));
    const ExportPlan plan = plan_adapter_export(unit, true);
    AtomicDirectory exported(directory_ / "adapter", ExistingDirectory::kReplace);
    create_export_files(plan, exported.temporary_path());
    std::vector<float> values(unit.num_elements);
    for (const Parameter& p : unit.parameters)
      for (int64_t i = p.offset; i < p.offset + p.num_elements(); ++i) values[i] = static_cast<float>(i + 1);
    write_unit_range(plan, exported.temporary_path(), 0, 0, unit.num_elements, values);
    finish_adapter_export(plan, exported.temporary_path(), config_, unit,
                          adapter_checksums(unit, 0, unit.num_elements, values));
    exported.publish();
    const PeftAdapter adapter(directory_ / "adapter", model_);  // which compares the copies
    std::vector<float> read(unit.num_elements);
    adapter.read_range(0, unit.num_elements, read);
    EXPECT_EQ(read, values);
    const SafetensorsFile file(directory_ / "adapter/adapter_model.safetensors");
    for (const char* name : is_whole ? std::vector{"weight"} : std::vector{"lora_A.weight", "lora_B.weight"})
      EXPECT_NE(file.find(std::string(kHead_) + "." + name), nullptr) << name;
  }
}

TEST_F(OuterParts, OfANewAdapterStartAsTheBaseForAnySplit) {
  ModelConfig untied = model_;
  untied.ties_embeddings = false;
  const HfModel base(directory_.path(), {.unties_head = true});
  for (const bool has_rows : {false, true}) {
    LoraConfig config = {.r = 3, .target_modules = {{"embed_tokens", "lm_head"}, ""}};
    if (has_rows) config.target_modules.names = {"q_proj"};
    if (has_rows) config.token_rows = {{"embed_tokens", {7, 2}}, {"lm_head", {10}}};
    const Adapter adapter = resolve_adapter(config, untied);
    const UnitLayout unit = adapter_layout(untied, adapter);
    std::vector<float> values(unit.num_elements);
    initial_adapter_range(base, adapter, unit, 7, 0, values);
    for (int64_t begin = 0; begin < unit.num_elements; begin += 7) {
      std::vector<float> part(std::min<int64_t>(7, unit.num_elements - begin));
      initial_adapter_range(base, adapter, unit, 7, begin, part);
      ASSERT_TRUE(std::equal(part.begin(), part.end(), values.begin() + begin));
    }
    for (const Parameter& p : unit.parameters) {
      if (p.layer >= 0) continue;
      const auto own = std::span(values).subspan(p.offset, p.num_elements());
      const bool is_zero = std::all_of(own.begin(), own.end(), [](float x) { return x == 0; });
      if (p.part != AdapterPart::kRows) {
        EXPECT_EQ(is_zero, (p.kind == kEmbedding) == (p.part == AdapterPart::kLoraA));
        continue;
      }
      const std::vector<int64_t>& tokens = adapter.rows[p.kind == kEmbedding ? 0 : 1].tokens;
      for (int64_t i = 0; i < p.num_elements(); ++i) EXPECT_EQ(own[i], base_[tokens[i / 12] * 12 + i % 12]);
    }
  }
}

}  // namespace
}  // namespace plumb
