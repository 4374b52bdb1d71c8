// The table of model families: every row parses, renders and parses back, in the spellings of both versions of
// transformers, and its switches are those of the family's classes.
#include "lib/model/families.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"
#include "lib/model/parameters.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

json small_config(std::string_view model_type, const json& changes = json::object()) {
  json config = {{"model_type", model_type}, {"vocab_size", 512},      {"hidden_size", 64},
                 {"intermediate_size", 96},  {"num_hidden_layers", 4}, {"num_attention_heads", 4},
                 {"num_key_value_heads", 2}};
  config.update(changes);
  return config;
}

ModelConfig parse(const json& config) { return parse_model_config(config.dump(), "config.json"); }
std::string refusal(const json& config) {
  return refusal_of<DataError>([&] { parse(config); });
}

TEST(Families, ParseBackWhatTheyRender) {
  for (const std::string& name : family_names()) {
    const ModelConfig config = parse(small_config(name));
    const std::string text = render_model_config(config, "float32");
    EXPECT_EQ(parse_model_config(text, "rendered"), config) << text;
    json version4 = json::parse(text), version5 = version4;
    for (const char* key : {"rope_parameters", "layer_types"}) version4.erase(key);
    for (const char* key : {"rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor"})
      version5.erase(key);
    EXPECT_EQ(parse(version5), config) << name;
    if (name == "mistral" || name == "qwen2" || name == "llama") {
      EXPECT_EQ(parse(version4), config) << name;
    }
  }
}

TEST(Families, HaveTheirSwitches) {
  const ModelConfig gemma2 = parse(small_config("gemma2", {{"query_pre_attn_scalar", 144}}));
  EXPECT_EQ(gemma2.head_dim, 256);
  EXPECT_EQ(gemma2.norm.weight_offset, 1);
  EXPECT_EQ(gemma2.norm_placement, NormPlacement::kAround);
  EXPECT_EQ(gemma2.feed_forward, FeedForward::kGeGlu);
  EXPECT_EQ(gemma2.score_scale, 1.0 / 12);
  EXPECT_EQ(gemma2.score_cap, 50);
  EXPECT_EQ(gemma2.logits, (LogitConfig{1, 30}));
  EXPECT_EQ(gemma2.embedding_multiplier, 8);
  EXPECT_EQ(gemma2.sliding_window, (std::vector<int64_t>{4096, 0, 4096, 0}));
  EXPECT_TRUE(gemma2.ties_embeddings);
  EXPECT_EQ(gemma2.frozen_input_token, 0) << "the default pad_token_id";

  const ModelConfig gemma3 = parse(small_config("gemma3_text", {{"sliding_window_pattern", 3}, {"rope_theta", 2e6}}));
  EXPECT_EQ(gemma3.sliding_window, (std::vector<int64_t>{4096, 4096, 0, 4096}));
  EXPECT_EQ(gemma3.rope_of(2)->theta, 2e6);
  EXPECT_EQ(gemma3.rope_of(0)->theta, 1e4);
  EXPECT_EQ(gemma3.score_cap, 0) << "Gemma 3 has the key and ignores it";

  const ModelConfig smollm3 = parse(small_config("smollm3"));
  EXPECT_EQ(smollm3.rope_of(3), nullptr);
  EXPECT_NE(smollm3.rope_of(2), nullptr);
  EXPECT_EQ(smollm3.rope.theta, 2e6);
  EXPECT_EQ(parse(small_config("smollm3", {{"no_rope_layers", {1, 0, 1, 1}}})).rope_of(1), nullptr) << "1 rotates";

  const ModelConfig cohere2 = parse(small_config("cohere2", {{"logit_scale", 0.25}}));
  EXPECT_EQ(cohere2.norm.kind, NormKind::kLayer);
  EXPECT_EQ(cohere2.norm_placement, NormPlacement::kParallel);
  EXPECT_TRUE(cohere2.rope.is_interleaved);
  EXPECT_EQ(cohere2.rope_of(3), nullptr) << "layers without a window do not rotate";
  EXPECT_EQ(cohere2.logits, (LogitConfig{0.25, 0}));
  expect_contains(refusal(small_config("cohere2", {{"head_dim", 32}})), {"head_dim", "16"});

  const ModelConfig glm4 = parse(small_config("glm4"));
  EXPECT_EQ(glm4.rope.rotated_dim(glm4.head_dim), 64);
  EXPECT_TRUE(glm4.has_qkv_bias && !glm4.has_o_bias && glm4.has_fused_gate_up && !glm4.has_fused_qkv);

  const ModelConfig granite = parse(small_config("granite", {{"logits_scaling", 49}, {"residual_multiplier", 0.22}}));
  EXPECT_EQ(granite.logits.scale, 1.0 / 49);
  EXPECT_EQ(json::parse(render_model_config(granite, "float32")).at("logits_scaling"), 49);
  EXPECT_EQ(granite.residual_multiplier, 0.22);
  EXPECT_EQ(granite.score_scale, 1) << "attention_multiplier itself";

  const ModelConfig starcoder2 = parse(small_config("starcoder2"));
  EXPECT_TRUE(starcoder2.norm.has_bias && starcoder2.has_qkv_bias && starcoder2.has_o_bias && starcoder2.has_mlp_bias);
  EXPECT_EQ(starcoder2.feed_forward, FeedForward::kGelu);
  EXPECT_FALSE(parse(small_config("starcoder2", {{"use_bias", false}})).has_mlp_bias);

  const ModelConfig olmo3 = parse(small_config("olmo3"));
  EXPECT_EQ(olmo3.norm_placement, NormPlacement::kAfter);
  EXPECT_EQ(olmo3.qk_norm, QkNorm::kAllHeads);
  EXPECT_EQ(olmo3.sliding_window, (std::vector<int64_t>{4096, 4096, 4096, 0}));
}

TEST(Families, OfLongRopeTakeTheRatioOfLengthsForAFactor) {
  const json keys = {
      {"max_position_embeddings", 896},
      {"original_max_position_embeddings", 224},
      {"partial_rotary_factor", 0.75},
      {"rope_scaling", {{"type", "su"}, {"short_factor", {1, 1, 1, 1, 1, 1}}, {"long_factor", {1, 2, 3, 4, 5, 6}}}}};
  const ModelConfig config = parse(small_config("phi3", keys));
  EXPECT_EQ(config.rope.kind, RopeConfig::Kind::kLongRope);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.rope.rotated_dim(config.head_dim), 12);
  const json rendered = json::parse(render_model_config(config, "float32"));
  EXPECT_EQ(rendered.at("rope_scaling").size(), 3u) << "transformers 4 takes no other keys";
  EXPECT_EQ(parse(rendered), config);
}

TEST(Families, OfPhi3HaveAnOriginalLengthOutsideOfTheirRope) {
  json keys = {{"max_position_embeddings", 16384},
               {"rope_parameters",
                {{"rope_type", "longrope"},
                 {"original_max_position_embeddings", 256},
                 {"short_factor", json::array_t(8, 1)},
                 {"long_factor", json::array_t(8, 2)}}}};
  EXPECT_EQ(parse(small_config("phi3", keys)).rope.original_max_position_embeddings, 4096)
      << "the default of its class";
  keys["original_max_position_embeddings"] = 512;
  EXPECT_EQ(parse(small_config("phi3", keys)).rope.original_max_position_embeddings, 512);
}

TEST(Families, IgnoreKeysThatTheirClassesIgnore) {
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"})
    for (const char* family : {"gemma2", "olmo3", "gpt_oss"})
      EXPECT_EQ(parse(small_config(family, {{key, 3}})), parse(small_config(family))) << family;
  EXPECT_EQ(parse(small_config("cohere2", {{"_sliding_window_pattern", 3}})), parse(small_config("cohere2")));
  EXPECT_EQ(parse(small_config("llama", {{"hidden_act", "swish"}})), parse(small_config("llama")));
  const json typed = {{"rope_scaling", {{"type", "linear"}, {"factor", 8}}}};
  EXPECT_EQ(parse(small_config("gemma3_text", typed)), parse(small_config("gemma3_text")));
  EXPECT_EQ(parse(small_config("llama", typed)).rope.factor, 8);
}

TEST(Families, OfGptOssHaveYarnUnlessTheFileHasRope) {
  using Kind = RopeConfig::Kind;
  EXPECT_EQ(parse(small_config("gpt_oss")).rope.kind, Kind::kYarn);
  EXPECT_EQ(parse(small_config("gpt_oss", {{"rope_scaling", json::object()}})).rope.kind, Kind::kYarn);
  EXPECT_EQ(parse(small_config("gpt_oss", {{"rope_parameters", json::object()}})).rope.kind, Kind::kDefault);
}

TEST(Families, AreReadOutOfAModelOfImages) {
  const json text = {{"model_type", "gemma3_text"},
                     {"hidden_size", 64},
                     {"intermediate_size", 96},
                     {"num_hidden_layers", 2},
                     {"sliding_window", 1024}};
  const json config = {{"model_type", "gemma3"},
                       {"architectures", {"Gemma3ForConditionalGeneration"}},
                       {"text_config", text},
                       {"vision_config", {{"hidden_size", 16}}},
                       {"eos_token_id", {1, 106}}};
  const ModelConfig parsed = parse(config);
  EXPECT_EQ(parsed.family, Family::kGemma3);
  EXPECT_EQ(parsed.vocab_size, 262208) << "what the sparse text_config leaves out";
  EXPECT_EQ(parsed.num_heads, 8);
  EXPECT_EQ(parsed.eos_token_ids, (std::vector<int32_t>{1, 106}));
  EXPECT_TRUE(parsed.ties_embeddings);
  json untied = config;
  untied["text_config"]["tie_word_embeddings"] = false;
  EXPECT_TRUE(parse(untied).ties_embeddings) << "the outer key decides";
  untied["tie_word_embeddings"] = false;
  EXPECT_FALSE(parse(untied).ties_embeddings);
}

TEST(Families, RefuseWhatTheyCannotCompute) {
  expect_contains(refusal(small_config("gemma2", {{"hidden_activation", "gelu"}})), {"hidden_activation", "tanh"});
  expect_contains(refusal(small_config("gemma3_text", {{"use_bidirectional_attention", true}})), {"bidirectional"});
  expect_contains(refusal(small_config("gemma3_text", {{"rope_parameters", {{"rope_theta", 1e6}}}})),
                  {"full_attention", "sliding_attention"});
  expect_contains(refusal(small_config("llama", {{"partial_rotary_factor", 0.5}})), {"whole heads"});
  expect_contains(refusal(small_config("smollm3", {{"no_rope_layers", {1, 0}}})), {"no_rope_layers", "4"});
}

}  // namespace
}  // namespace plumb
