#include "lib/nn/decode.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "lib/nn/block_reference.hpp"

namespace plumb {
namespace {

ModelConfig small_config(Family family) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = 53;
  config.hidden_size = 32;
  config.intermediate_size = 40;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = family == Family::kQwen3 ? 10 : 8;
  config.max_position_embeddings = 200;
  config.sliding_window = {0, 0, 0};
  config.ties_embeddings = family == Family::kQwen2;
  config.has_qkv_bias = family == Family::kQwen2;
  if (family == Family::kQwen3) config.qk_norm = QkNorm::kHead;
  return config;
}

std::vector<std::pair<std::string, ModelConfig>> all_configs() {
  std::vector<std::pair<std::string, ModelConfig>> configs = {
      {"llama", small_config(Family::kLlama)},
      {"qwen2", small_config(Family::kQwen2)},
      {"qwen3", small_config(Family::kQwen3)},
      {"mistral", small_config(Family::kMistral)},
      {"llama with biases", small_config(Family::kLlama)},
      {"llama with scaled rope", small_config(Family::kLlama)},
  };
  configs[3].second.sliding_window = {7, 7, 7};
  configs[4].second.has_qkv_bias = configs[4].second.has_o_bias = true;
  configs[5].second.rope = {RopeConfig::Kind::kLlama3, 10000.0, 8.0, 1.0, 4.0, 16};
  const auto add = [&](const char* name, auto change) {
    configs.emplace_back(name, small_config(Family::kLlama));
    change(configs.back().second);
  };
  add("capped, around", [](ModelConfig& c) {
    c.norm.weight_offset = 1;
    c.norm_placement = NormPlacement::kAround;
    c.feed_forward = FeedForward::kGeGlu;
    c.score_cap = 0.7;
    c.logits.cap = 2.5;
    c.embedding_multiplier = 3;
    c.sliding_window = {7, 0, 7};
    c.sliding_rope = RopeConfig{.theta = 100};
  });
  add("norms after, whole q/k norm, scaled", [](ModelConfig& c) {
    c.norm_placement = NormPlacement::kAfter;
    c.qk_norm = QkNorm::kAllHeads;
    c.residual_multiplier = 0.4;
    c.logits.scale = 0.25;
  });
  add("parallel, interleaved, unrotated", [](ModelConfig& c) {
    c.norm.kind = NormKind::kLayer;
    c.norm_placement = NormPlacement::kParallel;
    c.rope.is_interleaved = true;
    c.rope.partial_rotary_factor = 0.5;
    c.is_unrotated = {false, true, false};
  });
  add("LayerNorm, GELU, biases", [](ModelConfig& c) {
    c.norm = {.kind = NormKind::kLayer, .has_bias = true};
    c.feed_forward = FeedForward::kGelu;
    c.has_qkv_bias = c.has_o_bias = c.has_mlp_bias = true;
  });
  add("longrope", [](ModelConfig& c) {
    c.rope = {.kind = RopeConfig::Kind::kLongRope, .factor = 4, .original_max_position_embeddings = 70};
    c.rope.short_factor = {1, 1.1, 1.3, 1.5};
    c.rope.long_factor = {1, 2, 3, 4};
  });
  add("experts, some layers dense, shared expert", [](ModelConfig& c) {
    c.mixture.num_experts = 5, c.mixture.num_chosen = 2, c.mixture.expert_size = 12;
    c.mixture.shared_expert_size = 10;
    c.mixture.renormalizes = false;
    c.mixture.is_dense = {false, true, false};
  });
  add("experts of gpt-oss, sinks", [](ModelConfig& c) {
    c.mixture.num_experts = 4, c.mixture.num_chosen = 2, c.mixture.expert_size = 12;
    c.mixture.is_gpt_oss = true;
    c.mixture.swiglu_limit = 0.5;
    c.has_sinks = c.has_qkv_bias = c.has_o_bias = true;
    c.sliding_window = {7, 0, 7};
  });
  add("dynamic", [](ModelConfig& c) {
    c.max_position_embeddings = 70;
    c.rope = {.kind = RopeConfig::Kind::kDynamic, .factor = 4};
  });
  return configs;
}

std::vector<at::Tensor> random_units(const ModelConfig& config, at::ScalarType dtype = at::kFloat) {
  std::vector<at::Tensor> units;
  for (const UnitLayout& layout : unit_layouts(config)) {
    const at::Tensor flat = at::empty({layout.num_elements}, at::TensorOptions().dtype(at::kFloat));
    for (int64_t i = 0; i < layout.num_elements; ++i)
      flat.data_ptr<float>()[i] = static_cast<float>(0.25 * random_normal(1, units.size(), static_cast<uint64_t>(i)));
    units.push_back(flat.to(dtype));
  }
  return units;
}

/// Logits after every token, [T, V], from the blocks of training and plain LibTorch around them.
at::Tensor full_forward(const ModelConfig& config, const std::vector<at::Tensor>& units,
                        const std::vector<int32_t>& tokens) {
  const std::vector<UnitLayout> layouts = unit_layouts(config);
  const auto find = [&](ParameterKind kind) {
    for (size_t unit = 0; unit < units.size(); ++unit)
      for (const Parameter& p : layouts[unit].parameters)
        if (p.kind == kind) return units[unit].narrow(0, p.offset, p.num_elements()).view(p.shape);
    return at::Tensor();
  };
  const at::Tensor embedding = find(ParameterKind::kEmbedding);
  const std::vector<int64_t> ids(tokens.begin(), tokens.end()), documents = {0, std::ssize(tokens)};
  at::Tensor x = at::index_select(embedding, 0, at::tensor(ids)) * config.embedding_multiplier;
  ModelRope rope(config);
  const BlockContext context(config, rope, {documents, {}});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto unit = static_cast<size_t>(layer) + 1;
    BlockActivations saved;
    x = block_forward(context, layer, block_tensors(layouts[unit], units[unit]), x, saved);
  }
  x = reference::norm(x.to(at::kFloat), config.norm, find(ParameterKind::kFinalNorm),
                      find(ParameterKind::kFinalNormBias));
  const at::Tensor head = config.ties_embeddings ? embedding : find(ParameterKind::kHead);
  const at::Tensor logits = at::matmul(x, head.to(at::kFloat).t()) * config.logits.scale;
  return config.logits.cap > 0 ? at::tanh(logits / config.logits.cap) * config.logits.cap : logits;
}

std::vector<int32_t> random_tokens(uint64_t stream, int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(
        static_cast<int32_t>(random_bits(5, stream, static_cast<uint64_t>(i)) % static_cast<uint64_t>(vocab)));
  return tokens;
}

float largest_difference(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<float>(); }

/// Replaces the batch by these prompts and returns the logits after each.
at::Tensor start(Decoder& decoder, const std::vector<std::vector<int32_t>>& prompts) {
  decoder.keep({});
  std::vector<Decoder::NewTexts> texts;
  for (const std::vector<int32_t>& prompt : prompts) texts.push_back({prompt});
  return decoder.add(texts);
}

/// Feeds sequences of different lengths token by token; returns the largest difference to the full forward.
float incremental_error(const ModelConfig& config, at::ScalarType dtype) {
  const std::vector<at::Tensor> units = random_units(config, dtype);
  const std::vector<int64_t> prompt_lengths = {1, 5, 66, 5};
  constexpr int64_t kNewTokens = 20;
  std::vector<std::vector<int32_t>> texts, prompts;
  std::vector<at::Tensor> expected;
  for (size_t i = 0; i < prompt_lengths.size(); ++i) {
    texts.push_back(random_tokens(i, prompt_lengths[i] + kNewTokens, config.vocab_size));
    prompts.emplace_back(texts[i].begin(), texts[i].begin() + prompt_lengths[i]);
    expected.push_back(full_forward(config, units, texts[i]));
  }
  Decoder decoder(config, units);
  at::Tensor logits = start(decoder, prompts);
  float error = 0;
  for (int64_t step = 0;; ++step) {
    std::vector<int32_t> next;
    for (size_t i = 0; i < texts.size(); ++i) {
      const int64_t fed = prompt_lengths[i] + step;
      if (config.rope_depends_on_length())  // a text that grows rotates as a text of its length
        expected[i] = full_forward(config, units, {texts[i].begin(), texts[i].begin() + fed});
      error = std::max(error, largest_difference(logits[static_cast<int64_t>(i)], expected[i][fed - 1]));
      if (step < kNewTokens) next.push_back(texts[i][fed]);
    }
    if (step == kNewTokens) return error;
    logits = decoder.step(next);
  }
}

TEST(Decoder, IncrementalLogitsEqualThoseOfAFullForward) {
  for (const auto& [name, config] : all_configs()) EXPECT_LT(incremental_error(config, at::kFloat), 1e-4f) << name;
}

TEST(Decoder, Bfloat16StaysNearItsFullForward) {
  for (const auto& [name, config] : all_configs()) {
    const float scale =
        full_forward(config, random_units(config), random_tokens(0, 20, config.vocab_size)).abs().max().item<float>();
    EXPECT_LT(incremental_error(config, at::kBFloat16), 0.05f * scale) << name;
  }
}

TEST(Decoder, RemainingRowsAreIndependentOfDroppedOnes) {
  const ModelConfig config = small_config(Family::kLlama);
  const std::vector<at::Tensor> units = random_units(config);
  std::vector<std::vector<int32_t>> prompts;
  for (uint64_t i = 0; i < 3; ++i) prompts.push_back(random_tokens(i, 3 + static_cast<int64_t>(i), config.vocab_size));
  Decoder decoder(config, units);
  start(decoder, prompts);
  decoder.keep(std::vector<int64_t>{0, 2});
  const at::Tensor logits = decoder.step(std::vector<int32_t>{7, 8});

  Decoder alone(config, units);
  start(alone, std::vector<std::vector<int32_t>>{prompts[2]});
  EXPECT_LT(largest_difference(logits[1], alone.step(std::vector<int32_t>{8})[0]), 1e-5f);
}

/// The logits of a text of 61 tokens and then `num_steps`, among `others` that begin before and after it.
at::Tensor logits_among(Decoder& decoder, int64_t others, int64_t num_steps) {
  const int64_t vocab = decoder.config().vocab_size;
  const std::vector<int32_t> text = random_tokens(0, 61 + num_steps, vocab);
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t i = 0; i < others; ++i) prompts.push_back(random_tokens(1 + i, i % 2 == 0 ? 61 : 3 + i, vocab));
  prompts.emplace_back(text.begin(), text.begin() + 61);
  at::Tensor logits = start(decoder, prompts)[others];
  for (int64_t i = 0; i < others; ++i) decoder.add(random_tokens(2, 70 + i, vocab), 2);
  for (int64_t step = 0; step < num_steps; ++step) {
    std::vector<int32_t> tokens = random_tokens(3 + step, decoder.num_texts(), vocab);
    tokens[others] = text[61 + step];
    logits = decoder.step(tokens)[others];
  }
  return logits;
}

TEST(Decoder, TheBitsOfATextDoNotDependOnTheOthersOrOnThreads) {
  for (const auto& [name, config] : all_configs())
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(name);
      Decoder decoder(config, random_units(config, dtype));
      const at::Tensor alone = logits_among(decoder, 0, 6).clone();
      EXPECT_TRUE(at::equal(alone, logits_among(decoder, 3, 6)));
      at::set_num_threads(2);
      EXPECT_TRUE(at::equal(alone, logits_among(decoder, 5, 6)));
      at::set_num_threads(1);
    }
}

TEST(Decoder, CopiesOfAPromptGoTheirOwnWays) {
  const ModelConfig config = small_config(Family::kLlama);
  for (const int64_t length : {5, 64, 100}) {  // within, at the end of, and beyond the first page
    Decoder decoder(config, random_units(config)), alone(config, random_units(config));
    const std::vector<int32_t> prompt = random_tokens(1, length, config.vocab_size);
    decoder.add(prompt, 3);
    for (int32_t step = 0; step < 70; ++step) {
      const at::Tensor logits = decoder.step(std::vector<int32_t>{step % 50, 7, (3 * step) % 50});
      if (step == 0) alone.add(prompt);
      EXPECT_TRUE(at::equal(alone.step(std::vector<int32_t>{(3 * step) % 50})[0], logits[2]));
    }
  }
}

TEST(Decoder, RefusesEmptyPromptsAndUnknownTokens) {
  const ModelConfig config = small_config(Family::kLlama);
  Decoder decoder(config, random_units(config));
  EXPECT_THROW(start(decoder, std::vector<std::vector<int32_t>>{{}}), DataError);
  EXPECT_THROW(start(decoder, std::vector<std::vector<int32_t>>{{1, 53}}), DataError);
  EXPECT_THROW(start(decoder, std::vector<std::vector<int32_t>>{{-1}}), DataError);
}

TEST(Generate, GreedyTakesTheLikeliestOfTheFullForward) {
  const ModelConfig config = small_config(Family::kQwen3);
  const std::vector<at::Tensor> units = random_units(config);
  const std::vector<std::vector<int32_t>> prompts = {random_tokens(0, 4, 53), random_tokens(1, 9, 53)};
  Decoder decoder(config, units);
  const auto texts = generate(decoder, prompts, {.max_new_tokens = 12});
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> text = prompts[i];
    ASSERT_EQ(texts[i].size(), 12u);
    for (const int32_t token : texts[i]) {
      EXPECT_EQ(token, full_forward(config, units, text)[-1].argmax().item<int64_t>());
      text.push_back(token);
    }
  }
}

TEST(Generate, StopsAtAnyStopIdAndAtTheLastPosition) {
  ModelConfig config = small_config(Family::kLlama);
  const std::vector<at::Tensor> units = random_units(config);
  const std::vector<std::vector<int32_t>> prompts = {random_tokens(0, 4, 53), random_tokens(1, 6, 53)};
  Decoder decoder(config, units);
  const auto free = generate(decoder, prompts, {.max_new_tokens = 30});
  const int32_t stop = free[0][3];
  const auto stopped = generate(decoder, prompts, {.max_new_tokens = 30, .stop_ids = {-1, stop}});
  const auto first = std::find(free[0].begin(), free[0].end(), stop);
  EXPECT_EQ(stopped[0], std::vector<int32_t>(free[0].begin(), first));

  config.max_position_embeddings = 10;
  Decoder short_decoder(config, units);
  const auto full = generate(short_decoder, prompts, {.max_new_tokens = 30});
  EXPECT_EQ(full[0].size(), 6u);
  EXPECT_EQ(full[1].size(), 4u);
}

TEST(Generate, NeverChoosesIdsThatPadTheVocabulary) {
  const ModelConfig config = small_config(Family::kLlama);
  Decoder decoder(config, random_units(config));
  const std::vector<std::vector<int32_t>> prompts = {random_tokens(0, 4, 53)};
  const GenerateOptions options{.max_new_tokens = 60, .sampling = {.temperature = 5}};
  const auto free = generate(decoder, prompts, options)[0];
  EXPECT_GE(*std::max_element(free.begin(), free.end()), 20);
  GenerateOptions limited = options;
  limited.num_known_tokens = 20;
  const auto known = generate(decoder, prompts, limited)[0];
  EXPECT_LT(*std::max_element(known.begin(), known.end()), 20);
}

TEST(Generate, SamplesDependOnSeedRowAndPositionOnly) {
  const ModelConfig config = small_config(Family::kLlama);
  Decoder decoder(config, random_units(config));
  const std::vector<int32_t> prompt = random_tokens(0, 4, 53);
  const std::vector<std::vector<int32_t>> same = {prompt, prompt}, one = {prompt};
  const GenerateOptions options{.max_new_tokens = 20, .sampling = {.temperature = 1}};
  const auto texts = generate(decoder, same, options, 5);
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_EQ(generate(decoder, one, options, 6)[0], texts[1]);
  GenerateOptions other = options;
  other.seed = 43;
  EXPECT_NE(generate(decoder, one, other, 6)[0], texts[1]);
}

TEST(Generate, TheNextPromptTakesThePlaceOfATextThatEnded) {
  const ModelConfig config = small_config(Family::kLlama);
  Decoder decoder(config, random_units(config));
  std::vector<std::vector<int32_t>> prompts;  // more than are continued at a time, some equal
  for (uint64_t i = 0; i < 150; ++i) prompts.push_back(random_tokens(i / 3, 3 + static_cast<int64_t>(i / 3) % 7, 53));
  const GenerateOptions options{
      .max_new_tokens = 12, .stop_ids = {1, 2, 3, 4}, .sampling = {.temperature = 2}, .keeps_end = true};
  const auto texts = generate(decoder, prompts, options);
  int64_t num_ended = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(generate(decoder, std::span(prompts).subspan(i, 1), options, i)[0], texts[i]);
    const bool has_ended = texts[i].back() >= 1 && texts[i].back() <= 4;
    num_ended += has_ended ? 1 : 0;
    EXPECT_TRUE(has_ended || texts[i].size() == 12);
    for (size_t j = 0; j + 1 < texts[i].size(); ++j) EXPECT_FALSE(texts[i][j] >= 1 && texts[i][j] <= 4);
  }
  EXPECT_GT(num_ended, 20);
  EXPECT_LT(num_ended, 150);
}

TEST(Generate, CallsOnTokenForEachToken) {
  const ModelConfig config = small_config(Family::kLlama);
  Decoder decoder(config, random_units(config));
  const std::vector<std::vector<int32_t>> prompts = {random_tokens(0, 4, 53), random_tokens(1, 6, 53)};
  std::vector<std::vector<int32_t>> told(2);
  const auto texts = generate(decoder, prompts, {.max_new_tokens = 8}, 0,
                              [&](size_t prompt, int32_t token) { told[prompt].push_back(token); });
  EXPECT_EQ(told, texts);
  EXPECT_EQ(generate(decoder, prompts, {.max_new_tokens = 0})[0].size(), 0u);
}

}  // namespace
}  // namespace plumb
