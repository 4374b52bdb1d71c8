#include "lib/model/model_config.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

json small_config(const char* model_type) {
  return {{"model_type", model_type}, {"vocab_size", 512},
          {"hidden_size", 64},        {"intermediate_size", 172},
          {"num_hidden_layers", 3},   {"num_attention_heads", 8},
          {"num_key_value_heads", 4}, {"max_position_embeddings", 256},
          {"hidden_act", "silu"}};
}

json with(json config, const json& changes) {
  config.update(changes);
  return config;
}

json without(json config, const char* key) {
  config.erase(key);
  return config;
}

ModelConfig parse(const json& config) { return parse_model_config(config.dump(), "config.json"); }

std::string refusal(const std::string& text) {
  return refusal_of<DataError>([&] { parse_model_config(text, "config.json"); });
}

std::string refusal(const json& config) { return refusal(config.dump()); }

TEST(ModelConfig, UsesLlamaDefaultsForAbsentKeys) {
  const ModelConfig config =
      parse(without(without(small_config("llama"), "num_key_value_heads"), "max_position_embeddings"));
  EXPECT_EQ(config.num_kv_heads, 8);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.max_position_embeddings, 2048);
  EXPECT_EQ(config.norm.epsilon, 1e-6);
  EXPECT_EQ(config.rope.kind, RopeConfig::Kind::kDefault);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_EQ(config.sliding_window, std::vector<int64_t>(3, 0));
  EXPECT_FALSE(config.ties_embeddings || config.has_qkv_bias || config.has_o_bias || config.qk_norm != QkNorm::kNone);
  EXPECT_EQ(config.initializer_range, 0.02);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_EQ(config.eos_token_ids, std::vector<int32_t>{2});
}

TEST(ModelConfig, UsesTheDefaultsOfEachFamily) {
  const auto defaults = [](const char* type) { return without(small_config(type), "num_key_value_heads"); };
  EXPECT_EQ(parse(defaults("mistral")).num_kv_heads, 8);
  EXPECT_EQ(parse(with(defaults("qwen2"), {{"num_attention_heads", 32}})).num_kv_heads, 32);
  EXPECT_EQ(parse(small_config("qwen3")).head_dim, 128);
  EXPECT_EQ(parse(small_config("qwen2")).head_dim, 8);
  EXPECT_EQ(parse(small_config("qwen2")).bos_token_id, -1);
  EXPECT_TRUE(parse(small_config("qwen2")).eos_token_ids.empty());
  EXPECT_EQ(parse(without(small_config("mistral"), "max_position_embeddings")).max_position_embeddings, 131072);
  EXPECT_EQ(parse(with(small_config("qwen2"), {{"num_key_value_heads", nullptr}})).num_kv_heads, 8);
}

TEST(ModelConfig, BiasesAndNormsFollowTheFamily) {
  EXPECT_TRUE(parse(small_config("qwen2")).has_qkv_bias);
  EXPECT_FALSE(parse(small_config("qwen2")).has_o_bias);
  EXPECT_EQ(parse(small_config("qwen3")).qk_norm, QkNorm::kHead);
  EXPECT_FALSE(parse(small_config("qwen3")).has_qkv_bias);
  for (const char* family : {"llama", "qwen3"}) {
    const ModelConfig config = parse(with(small_config(family), {{"attention_bias", true}}));
    EXPECT_TRUE(config.has_qkv_bias && config.has_o_bias) << family;
  }
  EXPECT_FALSE(parse(with(small_config("mistral"), {{"attention_bias", true}})).has_qkv_bias);
}

TEST(ModelConfig, ReadsRopeOfTransformers4And5Alike) {
  const json scaling = {
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4}, {"original_max_position_embeddings", 64}};
  const json version4 = {{"rope_theta", 5e5}, {"rope_scaling", with(scaling, {{"rope_type", "llama3"}})}};
  const json version5 = {{"rope_parameters", with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 5e5}})}};
  const json legacy = {{"rope_theta", 5e5}, {"rope_scaling", with(scaling, {{"type", "llama3"}})}};
  for (const json& keys : {version4, version5, legacy}) {
    const RopeConfig rope = parse(with(small_config("llama"), keys)).rope;
    EXPECT_EQ(rope.kind, RopeConfig::Kind::kLlama3);
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 8.0);
    EXPECT_EQ(rope.low_freq_factor, 1.0);
    EXPECT_EQ(rope.high_freq_factor, 4.0);
    EXPECT_EQ(rope.original_max_position_embeddings, 64);
  }
  const json linear = {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}};
  EXPECT_EQ(parse(with(small_config("mistral"), linear)).rope.kind, RopeConfig::Kind::kLinear);
  EXPECT_EQ(parse(with(small_config("mistral"), linear)).rope.factor, 2.0);
  const json empty = {{"rope_scaling", json::object()}, {"rope_parameters", {{"rope_theta", 77}}}};
  EXPECT_EQ(parse(with(small_config("llama"), empty)).rope.theta, 77.0);
}

TEST(ModelConfig, MistralSlidesUnlessTheWindowIsNull) {
  EXPECT_EQ(parse(small_config("mistral")).sliding_window, std::vector<int64_t>(3, 4096));
  EXPECT_EQ(parse(with(small_config("mistral"), {{"sliding_window", 48}})).sliding_window, std::vector<int64_t>(3, 48));
  EXPECT_EQ(parse(with(small_config("mistral"), {{"sliding_window", nullptr}})).sliding_window,
            std::vector<int64_t>(3, 0));
  EXPECT_EQ(parse(with(small_config("llama"), {{"sliding_window", 48}})).sliding_window, std::vector<int64_t>(3, 0));
}

TEST(ModelConfig, AMistralWithLayerTypesIsAMinistral) {
  const json types = {"sliding_attention", "full_attention", "sliding_attention"};
  for (const char* model_type : {"mistral", "ministral"}) {
    const json keys = {{"model_type", model_type}, {"sliding_window", 9}, {"layer_types", types}};
    const ModelConfig config = parse(with(small_config("mistral"), keys));
    EXPECT_EQ(config.family, Family::kMinistral);
    EXPECT_EQ(config.sliding_window, (std::vector<int64_t>{9, 0, 9}));
    EXPECT_EQ(parse(json::parse(render_model_config(config, "float32"))).sliding_window, config.sliding_window);
  }
  const json without_types = {{"model_type", "ministral"}, {"sliding_window", 9}};
  EXPECT_EQ(parse(with(small_config("mistral"), without_types)).sliding_window, std::vector<int64_t>(3, 9));
  const json null_types = {{"sliding_window", nullptr}, {"layer_types", nullptr}};
  EXPECT_EQ(parse(with(small_config("mistral"), null_types)).sliding_window, std::vector<int64_t>(3, 0));
}

TEST(ModelConfig, ThePaddingTokenGivesTheEmbeddingNoGradient) {
  const auto frozen = [](const json& pad) {
    return parse(with(small_config("llama"), {{"vocab_size", 50}, {"pad_token_id", pad}})).frozen_input_token;
  };
  EXPECT_EQ(frozen(nullptr), -1);
  EXPECT_EQ(frozen(7), 7);
  EXPECT_EQ(frozen(-1), 49);
  EXPECT_EQ(frozen(50), -1);  // added beside the vocabulary
}

TEST(ModelConfig, QwenSlidesOnlyInTheListedLayers) {
  const auto windows = [](const json& keys) { return parse(with(small_config("qwen3"), keys)).sliding_window; };
  using Windows = std::vector<int64_t>;
  EXPECT_EQ(windows({{"sliding_window", 9}}), Windows(3, 0));
  EXPECT_EQ(windows({{"sliding_window", 9}, {"use_sliding_window", true}}), Windows(3, 0));
  EXPECT_EQ(windows({{"sliding_window", 9}, {"use_sliding_window", true}, {"max_window_layers", 1}}),
            (Windows{0, 9, 9}));
  EXPECT_EQ(windows({{"use_sliding_window", true}, {"max_window_layers", 2}}), (Windows{0, 0, 4096}));
  const json types = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows({{"sliding_window", 9}, {"use_sliding_window", true}, {"layer_types", types}}), (Windows{9, 0, 9}));
  expect_contains(refusal(with(small_config("qwen3"), {{"layer_types", types}})), {"layer_types", "no sliding_window"});
  expect_contains(refusal(with(small_config("qwen3"), {{"layer_types", {"full_attention"}}})), {"layer_types", "3"});
  expect_contains(refusal(with(small_config("qwen2"), {{"layer_types", {"full_attention", "linear_attention", 1}}})),
                  {"layer 1", "sliding_attention", "linear_attention"});
}

TEST(ModelConfig, DefaultTokensBeyondTheVocabularyAreNone) {
  const json small = with(small_config("llama"), {{"vocab_size", 2}});
  const ModelConfig config = parse(without(without(small, "eos_token_id"), "bos_token_id"));
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_TRUE(config.eos_token_ids.empty());
}

TEST(ModelConfig, ReadsSpecialTokensInEveryForm) {
  const auto tokens = [](const json& eos) {
    return parse(with(small_config("llama"), {{"eos_token_id", eos}})).eos_token_ids;
  };
  EXPECT_EQ(tokens(7), std::vector<int32_t>{7});
  EXPECT_EQ(tokens({7, 9}), (std::vector<int32_t>{7, 9}));
  EXPECT_TRUE(tokens(nullptr).empty());
  EXPECT_EQ(parse(with(small_config("llama"), {{"bos_token_id", nullptr}})).bos_token_id, -1);
  for (const json& bad : {json(512), json(-1), json(1.0), json("2"), json({1, "x"}), json(18446744073709551615u)})
    expect_contains(refusal(with(small_config("llama"), {{"eos_token_id", bad}})), {"eos_token_id", "0 to 511"});
  expect_contains(refusal(with(small_config("llama"), {{"bos_token_id", {1}}})), {"bos_token_id"});
}

TEST(ModelConfig, RewardModelHasAScoreHead) {
  const json classifier =
      with(small_config("llama"), {{"architectures", {"LlamaForSequenceClassification"}}, {"pad_token_id", 3}});
  const ModelConfig config = parse(with(classifier, {{"id2label", {{"0", "LABEL_0"}}}}));
  EXPECT_EQ(config.head, HeadKind::kScore);
  EXPECT_EQ(config.pad_token_id, 3);
  EXPECT_EQ(parse(with(classifier, {{"num_labels", 1}})), config);
  EXPECT_EQ(parse(small_config("llama")).head, HeadKind::kLanguageModel);
  const json rendered = json::parse(render_model_config(config, "float32"));
  EXPECT_EQ(rendered["architectures"], json({"LlamaForSequenceClassification"}));
  EXPECT_EQ(rendered["id2label"], json({{"0", "LABEL_0"}}));
  EXPECT_EQ(rendered["pad_token_id"], 3);
  expect_contains(refusal(classifier), {"id2label", "one label"});  // transformers' default is two
  expect_contains(refusal(with(classifier, {{"id2label", {{"0", "bad"}, {"1", "good"}}}})), {"id2label", "2"});
}

TEST(ModelConfig, DetectsNf4Weights) {
  const json quantization = {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
  const ModelConfig config = parse(with(small_config("llama"), {{"quantization_config", quantization}}));
  EXPECT_TRUE(config.is_quantized);
  EXPECT_FALSE(parse(small_config("llama")).is_quantized);
  EXPECT_FALSE(json::parse(render_model_config(config, "float32")).contains("quantization_config"));
}

TEST(ModelConfig, ErrorsListWhatIsSupported) {
  expect_contains(refusal(small_config("gpt2")), {"model_type", "llama, mistral, ministral, qwen2, qwen3", "gpt2"});
  expect_contains(refusal(with(small_config("llama"), {{"a_new_switch", 1}})), {"a_new_switch", "delete it"});
  EXPECT_EQ(refusal(with(small_config("llama"), {{"_private", 1}, {"unsloth_version", "2026"}})), "accepted");
  expect_contains(refusal(without(small_config("llama"), "model_type")), {"model_type", "no such key"});
  expect_contains(refusal(with(small_config("llama"), {{"hidden_act", "gelu"}})), {"hidden_act", "silu", "gelu"});
  expect_contains(refusal(with(small_config("llama"), {{"quantization_config", {{"bits", 4}}}})),
                  {"quantization_config"});
  EXPECT_EQ(refusal(with(small_config("llama"), {{"quantization_config", nullptr}})), "accepted");
  for (const json& other : {json{{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}},
                            json{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}, json("nf4")})
    expect_contains(refusal(with(small_config("llama"), {{"quantization_config", other}})), {"quantization_config"});
  const auto scaled = [](const json& keys) { return with(small_config("llama"), {{"rope_scaling", keys}}); };
  expect_contains(refusal(scaled({{"rope_type", "proportional"}})),
                  {"rope_type", "default, linear, llama3", "longrope"});
  expect_contains(refusal(scaled({{"rope_type", "dynamic"}})), {"factor", "expected a number"});
  expect_contains(refusal(scaled({{"rope_type", "longrope"}})), {"short_factor", "array of 4"});
  expect_contains(refusal(scaled({{"type", "mrope"}, {"mrope_section", {1, 2}}})), {"mrope"});
  expect_contains(refusal(scaled({{"type", "default"}, {"mrope_section", {1, 2}}})), {"mrope_section"});
  expect_contains(refusal(with(small_config("llama"), {{"partial_rotary_factor", 0.5}})), {"partial_rotary_factor"});
  const json nested = {{"full_attention", {{"rope_theta", 1e4}}}};
  expect_contains(refusal(with(small_config("qwen3"), {{"rope_parameters", nested}})),
                  {"rope_parameters", "all layers"});
}

TEST(ModelConfig, RefusesAbsentAndAbsurdSizes) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
    expect_contains(refusal(without(small_config("llama"), key)), {"config.json: ", key, "no such key"});
    for (const json& bad : {json(0), json(-8), json(64.0), json("64"), json(true), json(nullptr), json::array(),
                            json(1'000'000'000'000), json(18446744073709551615u)})
      expect_contains(refusal(with(small_config("llama"), {{key, bad}})), {key, "expected a whole number", "got"});
  }
  expect_contains(refusal(with(small_config("llama"), {{"vocab_size", 10'000'001}})), {"10000000", "10000001"});
  expect_contains(refusal(with(small_config("llama"), {{"num_key_value_heads", 3}})),
                  {"num_key_value_heads", "divisor", "3"});
  expect_contains(refusal(with(small_config("llama"), {{"head_dim", 7}})), {"head_dim", "even", "7"});
  expect_contains(refusal(with(small_config("llama"), {{"hidden_size", 72}})), {"hidden_size", "even multiple"});
  expect_contains(refusal(with(small_config("llama"), {{"hidden_size", 65}})), {"hidden_size", "even multiple"});
  const json huge = {
      {"head_dim", 8}, {"hidden_size", 1'000'000}, {"intermediate_size", 10'000'000}, {"num_hidden_layers", 10'000}};
  expect_contains(refusal(with(small_config("llama"), huge)), {"parameters"});
}

TEST(ModelConfig, RefusesInconsistentNumbers) {
  for (const json& bad : {json(0), json(-1.0), json("1e4"), json(nullptr)}) {
    expect_contains(refusal(with(small_config("llama"), {{"rope_theta", bad}})), {"rope_theta", "expected a number"});
    expect_contains(refusal(with(small_config("llama"), {{"rms_norm_eps", bad}})),
                    {"rms_norm_eps", "expected a number"});
  }
  json llama3 = {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}};
  expect_contains(refusal(with(small_config("llama"), {{"rope_parameters", llama3}})),
                  {"high_freq_factor", "more than"});
  expect_contains(refusal(with(small_config("llama"), {{"rope_parameters", without(llama3, "factor")}})),
                  {"rope_parameters: factor", "no such key"});
  const std::string open = small_config("llama").dump().substr(0, small_config("llama").dump().size() - 1);
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999"})
    expect_contains(refusal(open + ",\"rms_norm_eps\":" + number + "}"), {"config.json", "expected"});
}

TEST(ModelConfig, RefusesAnythingButOneJsonObject) {
  const std::string good = small_config("llama").dump();
  EXPECT_EQ(refusal(good), "accepted");
  for (size_t length = 0; length < good.size(); ++length)
    EXPECT_NE(refusal(good.substr(0, length)), "accepted") << length;
  expect_contains(refusal("[" + good + "]"), {"expected a JSON object"});
  expect_contains(refusal(good + good), {"expected JSON"});
  expect_contains(refusal(good + std::string("\0x", 2)), {"NUL"});
  expect_contains(refusal(good.substr(0, good.size() - 1) + ",\"vocab_size\":7}"), {"vocab_size", "twice"});
  expect_contains(refusal("{\"a\":" + std::string(100'000, '[')), {"levels of nesting"});
  expect_contains(refusal(std::string("{\"a\":\"\xff\"}")), {"expected JSON"});
}

TEST(ModelConfig, RendersWhatItParses) {
  const json llama3 = {{"rope_type", "llama3"},  {"rope_theta", 5e5},       {"factor", 8.0},
                       {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  const json qwen = {{"sliding_window", 9},    {"use_sliding_window", true}, {"max_window_layers", 1},
                     {"attention_bias", true}, {"rms_norm_eps", 1e-5},       {"tie_word_embeddings", true}};
  for (const json& source :
       {with(small_config("llama"), {{"rope_parameters", llama3}, {"eos_token_id", {5, 6}}, {"attention_bias", true}}),
        with(small_config("mistral"), {{"sliding_window", nullptr}, {"eos_token_id", nullptr}, {"head_dim", 32}}),
        with(small_config("mistral"), {{"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}}}),
        with(small_config("qwen2"), {{"initializer_range", 0.1}, {"bos_token_id", 3}}),
        with(small_config("qwen3"), qwen)}) {
    const ModelConfig first = parse(source);
    const std::string text = render_model_config(first, "bfloat16");
    const ModelConfig second = parse_model_config(text, "rendered");
    EXPECT_EQ(second, first);
    EXPECT_EQ(json::parse(text).at("dtype"), "bfloat16");
    EXPECT_TRUE(json::parse(text).at("architectures").is_array());
  }
}

}  // namespace
}  // namespace plumb
