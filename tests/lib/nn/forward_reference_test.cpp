// Complete forward passes from Hugging Face directories in one process, against the results of transformers and of an
// independent float64 forward pass for the same models.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "lib/nn/block_reference.hpp"
#include "lib/objective/token_loss.hpp"
#include "tests/support/loaded_model.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

/// [T, V]
at::Tensor logits_of(const LoadedModel& model, const at::Tensor& hidden_TD) {
  const HeadTensors head = model.head();
  const at::Tensor normed_TD = reference::norm(hidden_TD, model.config.norm, head.norm_D, head.norm_bias_D);
  const at::Tensor logits_TV = at::matmul(normed_TD, head.head_VD.t()) * model.config.logits.scale;
  const double cap = model.config.logits.cap;
  return cap > 0 ? at::tanh(logits_TV / cap) * cap : logits_TV;
}

double mean_loss(const LoadedModel& model, const MicroBatch& batch, const at::Tensor& hidden_TD) {
  TokenLossScratch scratch;
  const auto result =
      token_loss(hidden_TD, find_targets(batch), model.head(), model.config.output(), TokenLoss::kNll, 0, {}, scratch);
  double sum = 0;
  for (const TokenStats& token : result.stats) sum += token.loss;
  return sum / static_cast<double>(result.stats.size());
}

class ForwardReference : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, ForwardReference,
                         testing::Values("tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-qwen3", "tiny-gemma2",
                                         "tiny-gemma3_text", "tiny-phi3", "tiny-olmo2", "tiny-olmo3", "tiny-smollm3",
                                         "tiny-granite", "tiny-ministral", "tiny-cohere2", "tiny-glm4",
                                         "tiny-starcoder2", "tiny-llama-bias", "tiny-yarn-qwen2", "tiny-dynamic-llama",
                                         "tiny-gemma3_text-hub", "tiny-phi3-hub", "tiny-gemma3-hub", "tiny-mixtral",
                                         "tiny-mixtral-hub", "tiny-mixtral-fused", "tiny-qwen2_moe", "tiny-qwen3_moe",
                                         "tiny-gpt_oss", "tiny-gpt_oss-hub"));

struct Golden {
  nlohmann::json record;
  MicroBatch batch;
  explicit Golden(const std::string& model)
      : record(test::reference_json(model + "/golden_forward.json")),
        batch(pack(record["input_ids"].get<std::vector<std::vector<int64_t>>>())) {}
};

TEST_P(ForwardReference, IsThatOfTransformers) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::string name = std::string("models/") + GetParam();
  const Golden golden(name);
  const LoadedModel model(test::reference_file(name), at::kFloat);
  const at::Tensor hidden = hidden_states(model, golden.batch), logits = logits_of(model, hidden);
  // both sides are float32, logits of up to 3 after three layers: some ten roundings of 2^-22; the record has six
  // decimals
  std::vector<at::Tensor> rows;
  for (const auto& row : golden.record["logits_last8_seq0"]) rows.push_back(at::tensor(row.get<std::vector<double>>()));
  const at::Tensor expected = at::stack(rows), got = logits.narrow(0, golden.batch.document_begin[1] - 8, 8);
  EXPECT_LE((got - expected).abs().max().item<double>(), 1e-5);
  const double count = static_cast<double>(logits.numel());
  EXPECT_NEAR(logits.to(at::kDouble).sum().item<double>(), golden.record["logits_sum"].get<double>(), 1e-6 * count)
      << "of errors of either sign less remains than of one";
  EXPECT_NEAR(logits.to(at::kDouble).abs().sum().item<double>(), golden.record["logits_abs_sum"].get<double>(),
              1e-6 * count);
  // transformers makes and rounds its mean in float32, whose last place at 6 is 2^-21
  EXPECT_NEAR(mean_loss(model, golden.batch, hidden), golden.record["loss"].get<double>(), 8 * 0x1p-21);
}

/// As the records are made: a null in the patch stays one, except in rope_parameters, where it removes the key.
void apply_patch(nlohmann::json& value, const nlohmann::json& patch, bool is_rope) {
  for (const auto& [key, change] : patch.items()) {
    if (change.is_object())
      apply_patch(value[key], change, is_rope || key == "rope_parameters");
    else if (change.is_null() && is_rope)
      value.erase(key);
    else
      value[key] = change;
  }
}

TEST_P(ForwardReference, IsThatOfTransformersForOtherKeys) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::string name = std::string("models/") + GetParam();
  const Golden golden(name);
  if (!golden.record.contains("variants")) return;
  const TemporaryDirectory directory;
  for (const auto& file : std::filesystem::directory_iterator(test::reference_file(name)))
    if (file.path().filename() != "config.json")
      std::filesystem::create_symlink(file.path(), directory / file.path().filename().string());
  for (const nlohmann::json& variant : golden.record["variants"]) {
    SCOPED_TRACE(variant["config"].dump());
    nlohmann::json config = test::reference_json(name + "/config.json");
    apply_patch(config, variant["config"], false);
    directory.write("config.json", config.dump());
    auto ids = golden.record["input_ids"].get<std::vector<std::vector<int64_t>>>();
    for (std::vector<int64_t>& document : ids) document.resize(variant["tokens"].get<size_t>());
    const MicroBatch batch = pack(ids);
    const LoadedModel model(directory.path(), at::kFloat);
    const at::Tensor hidden = hidden_states(model, batch), logits = logits_of(model, hidden);
    const at::Tensor expected = at::tensor(variant["logits_last_seq0_first16"].get<std::vector<double>>());
    const at::Tensor got = logits[batch.document_begin[1] - 1].narrow(0, 0, 16);
    EXPECT_LE((got - expected).abs().max().item<double>(), 1e-5);
    EXPECT_NEAR(mean_loss(model, batch, hidden), variant["loss"].get<double>(), 8 * 0x1p-21);
  }
}

/// Error of bfloat16: mean difference of the logits divided by their standard deviation.
double bfloat16_cost(const std::string& directory, const MicroBatch& batch) {
  const LoadedModel exact(directory, at::kFloat), rounded(directory, at::kBFloat16);
  const at::Tensor expected = logits_of(exact, hidden_states(exact, batch));
  const at::Tensor hidden = hidden_states(rounded, batch);
  EXPECT_EQ(hidden.scalar_type(), at::kBFloat16);
  const at::Tensor got = logits_of(rounded, hidden).to(at::kFloat);
  return ((got - expected).abs().mean() / expected.std()).item<double>();
}

// A result stored in 8 bits is off by up to 2^-8, by 2^-8 / 2.4 on the root mean square of a mantissa between 1 and 2.
// From the embedding to a logit about ten such roundings per layer add up (four matrices, their four results, two sums,
// two norms), of either sign: sqrt(10 * layers) * 2^-8 / 2.4, and twice that for the attention, which amplifies.
double bfloat16_bound(int64_t num_layers) {
  return 2 * std::sqrt(10.0 * static_cast<double>(num_layers)) * 0x1p-8 / 2.4;
}

TEST_P(ForwardReference, InBFloat16IsNearThatInFloat32) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::string name = std::string("models/") + GetParam();
  const Golden golden(name);
  const double flips = golden.record.contains("router") ? 2 : 1;  // a rounded logit may choose another expert
  EXPECT_LE(bfloat16_cost(test::reference_file(name), golden.batch), flips * bfloat16_bound(3));
}

struct Story {
  std::string directory = test::reference_file("models/stories260K");
  std::vector<int64_t> ids;
  at::Tensor logits;  // float64 [32, 512]

  Story() {
    ids = test::reference_json("models/stories260K/golden.json")["ids"].get<std::vector<int64_t>>();
    ids.resize(32);
    logits = at::empty({32, 512}, at::TensorOptions().dtype(at::kDouble));
    std::ifstream file(directory + "/logits_f64_first32.bin", std::ios::binary);
    file.read(static_cast<char*>(logits.data_ptr()), static_cast<std::streamsize>(logits.nbytes()));
    EXPECT_EQ(file.gcount(), 32 * 512 * 8);
  }
};

TEST(StoriesReference, LogitsAreThoseOfTheFloat64Forward) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Story story;
  const LoadedModel model(story.directory, at::kFloat);
  const at::Tensor got = logits_of(model, hidden_states(model, pack({story.ids})));
  // logits of up to 20 in float32 after five layers: a few tens of roundings of 2^-20 each
  EXPECT_LE((got - story.logits).abs().max().item<double>(), 1e-4);
}

TEST(StoriesReference, LogitsDoNotDependOnWhatElseIsPacked) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Story story;
  const LoadedModel model(story.directory, at::kFloat);
  const std::vector<int64_t> head(story.ids.begin(), story.ids.begin() + 9);
  const at::Tensor got = logits_of(model, hidden_states(model, pack({head, story.ids, head})));
  EXPECT_LE((got.narrow(0, 9, 32) - story.logits).abs().max().item<double>(), 1e-4);
  EXPECT_LE((got.narrow(0, 41, 9) - story.logits.narrow(0, 0, 9)).abs().max().item<double>(), 1e-4);
}

TEST(StoriesReference, InBFloat16IsNearThatInFloat32) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Story story;
  EXPECT_LE(bfloat16_cost(story.directory, pack({story.ids})), bfloat16_bound(5));
}

}  // namespace
}  // namespace plumb
