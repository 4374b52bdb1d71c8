// Completions computed by all ranks: the same on any number of them, and equal to those of one process with the whole
// model.
#include "apps/models/shared_decoder.hpp"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cmath>

#include "io/huggingface/hf_model.hpp"
#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"

namespace plumb {
namespace {

/// A model with small weights, in a directory of this rank: all ranks write the same.
class Sampling : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    directory_.write("config.json", render_model_config(config_, "float32"));
    TinyTensors tensors = tiny_tensors(config_);
    for (auto& [name, tensor] : tensors)
      for (float& value : tensor.values) value = std::sin(value);
    write_tiny_weights(directory_ / "model.safetensors", tensors);
    for (int32_t i = 0; i < 37; ++i) prompts_.push_back(std::vector<int32_t>(1 + i % 4, 3 + i % 8));
  }

  const ModelConfig config_ = tiny_config(Family::kLlama, false);
  const TemporaryDirectory directory_;
  const Communicator comm_;
  std::vector<std::vector<int32_t>> prompts_;
  const GenerateOptions options_{.max_new_tokens = 12, .stop_ids = {2}, .sampling = {.temperature = 1}, .seed = 7};
};

TEST_F(Sampling, CompletionsEqualThoseOfOneProcess) {
  constexpr int kGenerations = 6;  // more texts than up to three ranks continue at once
  const HfModel model(directory_.path());
  std::vector<at::Tensor> units;
  for (const UnitLayout& unit : model.units()) {
    const std::vector<float> values = read_whole_unit(model, unit);
    units.push_back(at::empty({unit.num_elements}, at::TensorOptions().dtype(at::kFloat)));
    std::copy(values.begin(), values.end(), units.back().data_ptr<float>());
  }
  Decoder whole(model.config(), units);
  std::vector<std::vector<int32_t>> rows;
  for (const auto& prompt : prompts_) rows.insert(rows.end(), kGenerations, prompt);
  std::vector<std::vector<Completion>> expected(prompts_.size());
  for (size_t begin = 0; begin < rows.size(); begin += 8) {
    const auto batch = std::span(rows).subspan(begin, std::min<size_t>(8, rows.size() - begin));
    const auto texts = generate(whole, batch, options_, begin);
    for (size_t i = 0; i < texts.size(); ++i) expected[(begin + i) / kGenerations].push_back(texts[i]);
  }
  ASSERT_NE(expected[0][0], expected[0][1]);  // one prompt's generations differ

  SharedDecoder decoder(comm_, {directory_.path()}, at::kFloat);
  EXPECT_EQ(sample_completions(comm_, decoder.decoder(), prompts_, kGenerations, options_), expected);
}

TEST_F(Sampling, GreedyCompletionsOfOnePromptAreAlike) {
  SharedDecoder decoder(comm_, {directory_.path()}, at::kBFloat16);
  GenerateOptions greedy = options_;
  greedy.sampling = {};
  for (const auto& completions : sample_completions(comm_, decoder.decoder(), prompts_, 2, greedy)) {
    ASSERT_EQ(completions.size(), 2u);
    EXPECT_EQ(completions[0], completions[1]);
  }
}

TEST_F(Sampling, NoPromptsHaveNoCompletions) {
  SharedDecoder decoder(comm_, {directory_.path()}, at::kFloat);
  EXPECT_TRUE(sample_completions(comm_, decoder.decoder(), {}, 2, options_).empty());
}

TEST_F(Sampling, AnErrorOfOneRankIsThrownByAll) {
  SharedDecoder decoder(comm_, {directory_.path()}, at::kFloat);
  prompts_.back().push_back(99);  // no such token; only one rank decodes it
  EXPECT_THROW(sample_completions(comm_, decoder.decoder(), prompts_, 2, options_), AgreedError);
}

TEST_F(Sampling, AMissingModelIsAnErrorOfAll) {
  EXPECT_THROW(SharedDecoder(comm_, {directory_ / "nothing"}, at::kFloat), AgreedError);
}

}  // namespace
}  // namespace plumb
