// Decoding against the results of transformers and of an independent float64 forward pass for the same models.
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/nn/decode.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

Decoder load_decoder(const std::string& directory) {
  const HfModel model(directory);
  std::vector<at::Tensor> units;
  for (const UnitLayout& unit : model.units()) {
    units.push_back(at::empty({unit.num_elements}, at::TensorOptions().dtype(at::kFloat)));
    model.read_unit_range(unit, 0, unit.num_elements,
                          {units.back().data_ptr<float>(), static_cast<size_t>(unit.num_elements)});
  }
  return Decoder(model.config(), units);
}

TEST(GenerateReference, TheStoryIsThatOfTheFloat64Forward) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const nlohmann::json golden = test::reference_json("models/stories260K/golden.json");
  const auto ids = golden["ids"].get<std::vector<int32_t>>();
  const std::string directory = test::reference_file("models/stories260K");
  Decoder decoder = load_decoder(directory);
  const std::vector<std::vector<int32_t>> prompts = {{ids[0]}};
  std::vector<int32_t> text = generate(decoder, prompts, {.max_new_tokens = std::ssize(ids) - 1})[0];
  text.insert(text.begin(), ids[0]);
  EXPECT_EQ(text, ids);
  EXPECT_EQ(load_tokenizer(directory).decode(text, true), golden["text"].get<std::string>());
}

class DecoderReference : public testing::TestWithParam<const char*> {};

TEST_P(DecoderReference, IncrementalLogitsEqualTransformers) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::string name = std::string("models/") + GetParam();
  const nlohmann::json golden = test::reference_json(name + "/golden_forward.json");
  const auto ids = golden["input_ids"][0].get<std::vector<int32_t>>();
  const nlohmann::json& expected = golden["logits_last8_seq0"];
  Decoder decoder = load_decoder(test::reference_file(name));
  at::Tensor logits = decoder.add(std::span(ids).first(ids.size() - expected.size() + 1));
  for (size_t i = 0;; ++i) {
    const at::Tensor row = at::tensor(expected[i].get<std::vector<float>>());
    EXPECT_LT((logits[0] - row).abs().max().item<float>(), 1e-4f) << GetParam() << " row " << i;
    if (i + 1 == expected.size()) break;
    logits = decoder.step(std::vector<int32_t>{ids[ids.size() - expected.size() + 1 + i]});
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderReference,
                         testing::Values("tiny-llama3", "tiny-mistral", "tiny-qwen2", "tiny-qwen3"));

}  // namespace
}  // namespace plumb
