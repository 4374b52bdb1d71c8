#include "io/gguf/gguf_export.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/dtype.hpp"
#include "tests/io/gguf/gguf_reader.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr int64_t kVocabSize = 310;  // 6 more than the tokenizer has
constexpr int32_t kEndId = 302;

/// Rows of whole Q8_0 blocks, three query heads per head of keys.
ModelConfig config_of(Family family, bool ties_embeddings = false) {
  ModelConfig config = tiny_config(family, ties_embeddings);
  config.vocab_size = kVocabSize;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 16;
  return config;
}

class Gguf : public testing::Test {
 protected:
  GgufReader exported(const ModelConfig& config, GgufNumber number = GgufNumber::kF32) {
    write_tiny_model(directory_, config);
    directory_.write("tokenizer.json", byte_level_fixture().dump());
    directory_.write("tokenizer_config.json",
                     R"({"bos_token": "<|bos|>", "eos_token": "<|end|>", "chat_template": "{{ x }}"})");
    const HfModel model(directory_.path());
    const GgufPlan plan = plan_gguf_export(model, {directory_.path()}, {kEndId}, number);
    notes_ = plan.notes;
    const std::string path = directory_ / "written";
    std::filesystem::remove(path);
    create_gguf_file(plan, path);
    for (int64_t i = std::ssize(plan.tensors) - 1; i >= 0; --i) write_gguf_tensor(plan, path, model, i);
    return GgufReader(directory_.read("written"));
  }
  TemporaryDirectory directory_;
  std::vector<std::string> notes_;
};

const std::map<std::string, std::string>& names_in_transformers() {
  static const std::map<std::string, std::string> names = {
      {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
      {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  return names;
}

/// "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight"
std::string name_in_transformers(const std::string& name) {
  if (name == "token_embd.weight") return "model.embed_tokens.weight";
  if (name == "output_norm.weight") return "model.norm.weight";
  if (name == "output.weight") return "lm_head.weight";
  const std::string part = name.substr(6, name.rfind('.') - 6);
  return "model.layers." + name.substr(4, 1) + "." + names_in_transformers().at(part) + name.substr(name.rfind('.'));
}

bool is_permuted(const std::string& architecture, const std::string& name) {
  return architecture == "llama" &&
         (name.find("attn_q.") != std::string::npos || name.find("attn_k.") != std::string::npos);
}

/// Heads of 16 rows: 0, 8, 1, 9, ...
std::vector<float> permuted(const std::vector<float>& values, int64_t width) {
  std::vector<float> result;
  for (int64_t head = 0; head < std::ssize(values) / width / 16; ++head)
    for (const int64_t row : {0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15})
      for (int64_t i = 0; i < width; ++i) result.push_back(values[(head * 16 + row) * width + i]);
  return result;
}

void expect_values(const ReadTensor& read, const std::vector<float>& expected, GgufNumber number,
                   const std::string& name) {
  ASSERT_EQ(read.values.size(), expected.size()) << name;
  const bool is_matrix = read.shape.size() == 2;
  ASSERT_EQ(read.type, is_matrix ? static_cast<uint32_t>(number) : 0u) << name;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!is_matrix || number == GgufNumber::kF32) {
      ASSERT_EQ(read.values[i], expected[i]) << name << " " << i;
    } else if (number == GgufNumber::kBf16) {
      ASSERT_EQ(read.values[i], bf16_to_float(float_to_bf16(expected[i]))) << name << " " << i;
    } else {
      // half a step, and what rounding the scale to float16 does to 127 steps
      ASSERT_NEAR(read.values[i], expected[i], read.steps[i] * (0.5f + 127.0f / 2048)) << name << " " << i;
    }
  }
}

void expect_tensors(const GgufReader& file, const ModelConfig& config, GgufNumber number) {
  TinyTensors expected = tiny_tensors(config);
  for (const auto& [name, read] : file.tensors) {
    const auto node = expected.extract(name_in_transformers(name));
    ASSERT_FALSE(node.empty()) << name;
    const TinyTensor& tensor = node.mapped();
    EXPECT_EQ(std::vector<int64_t>(read.shape.rbegin(), read.shape.rend()), tensor.shape) << name;
    const int64_t width = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
    const bool is_swapped = is_permuted(file.metadata.at("general.architecture"), name);
    expect_values(read, is_swapped ? permuted(tensor.values, width) : tensor.values, number, name);
  }
  EXPECT_TRUE(expected.empty()) << expected.begin()->first;
}

TEST_F(Gguf, HasEveryTensorOfEveryFamilyInEveryFormat) {
  for (const Family family : {Family::kLlama, Family::kMistral, Family::kMinistral, Family::kQwen2, Family::kQwen3})
    for (const GgufNumber number : {GgufNumber::kF32, GgufNumber::kBf16, GgufNumber::kQ8_0}) {
      const ModelConfig config = config_of(family, /*ties_embeddings=*/number == GgufNumber::kBf16);
      expect_tensors(exported(config, number), config, number);
      const bool has_nfc = family == Family::kQwen2 || family == Family::kQwen3;  // of Qwen2Tokenizer
      EXPECT_EQ(notes_.size(), has_nfc ? 1u : 0u);
    }
}

TEST_F(Gguf, PermutesBiasesOfLlama) {
  ModelConfig config = config_of(Family::kLlama);
  config.has_qkv_bias = config.has_o_bias = config.has_mlp_bias = true;
  expect_tensors(exported(config), config, GgufNumber::kF32);
}

ModelConfig mixture_of(Family family) {
  ModelConfig config = config_of(family);
  config.qk_norm = family == Family::kQwen3Moe ? QkNorm::kHead : QkNorm::kNone;
  config.has_qkv_bias = family == Family::kQwen2Moe;
  config.mixture.num_experts = 3, config.mixture.num_chosen = 2, config.mixture.expert_size = 64;
  if (family == Family::kQwen2Moe) config.mixture.shared_expert_size = 96;
  config.mixture.renormalizes = family != Family::kQwen2Moe;
  if (family != Family::kGptOss) return config;
  config.mixture.is_gpt_oss = config.has_sinks = config.has_qkv_bias = config.has_o_bias = true;
  config.sliding_window = {8, 0};
  return config;
}

/// The values of a parameter in order of experts; of gpt-oss's, outputs first, first + step, ... of each.
std::vector<float> experts_of(const ModelConfig& config, ParameterKind kind, int64_t layer, GgufTensor::Outputs part) {
  const TinyTensors tensors = tiny_tensors(config);
  std::vector<float> values;
  for (const UnitLayout& unit : unit_layouts(config))
    for (const Parameter& p : unit.parameters) {
      if (p.kind != kind || p.layer != layer) continue;
      const std::vector<float>& all = tensors.at(hf_parameter_name(p)).values;
      if (part.step == 0) values.insert(values.end(), all.begin(), all.end());
      if (part.step == 0) continue;
      const int64_t out = p.shape.back(), in = p.shape.size() == 3 ? p.shape[1] : 1;
      for (int64_t e = 0; e < p.shape[0]; ++e)
        for (int64_t o = part.first; o < out; o += part.step)
          for (int64_t i = 0; i < in; ++i) values.push_back(all[(e * in + i) * out + o]);
    }
  return values;
}

TEST_F(Gguf, HasTheExpertsOfALayerInOneTensor) {
  using enum ParameterKind;
  for (const Family family : {Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe}) {
    const ModelConfig config = mixture_of(family);
    const GgufReader file = exported(config);
    const std::string architecture = file.metadata.at("general.architecture");
    EXPECT_EQ(file.metadata.at(architecture + ".expert_count"), 3);
    EXPECT_EQ(file.metadata.at(architecture + ".expert_used_count"), 2);
    EXPECT_EQ(file.metadata.at(architecture + ".expert_feed_forward_length"), 64);
    const ReadTensor& down = file.tensors.at("blk.1.ffn_down_exps.weight");
    EXPECT_EQ(down.shape, (std::vector<int64_t>{64, 32, 3}));
    EXPECT_EQ(down.values, experts_of(config, kExpertDown, 1, {}));
    EXPECT_EQ(file.tensors.at("blk.0.ffn_gate_exps.weight").values, experts_of(config, kExpertGate, 0, {}));
    EXPECT_EQ(file.tensors.at("blk.1.ffn_up_exps.weight").values, experts_of(config, kExpertUp, 1, {}));
    EXPECT_EQ(file.tensors.contains("blk.0.ffn_gate_inp_shexp.weight"), family == Family::kQwen2Moe);
    const GgufReader rounded = exported(config, GgufNumber::kQ8_0);
    EXPECT_EQ(rounded.tensors.at("blk.0.ffn_up_exps.weight").type, 8u);
    EXPECT_EQ(rounded.tensors.at("blk.0.ffn_gate_inp.weight").type, 0u) << "the router";
  }
  const ModelConfig config = mixture_of(Family::kGptOss);
  const GgufReader file = exported(config, GgufNumber::kF32);
  EXPECT_EQ(file.tensors.at("blk.1.ffn_up_exps.weight").shape, (std::vector<int64_t>{32, 64, 3}));
  EXPECT_EQ(file.tensors.at("blk.1.ffn_up_exps.weight").values, experts_of(config, kExpertsGateUp, 1, {1, 2}));
  EXPECT_EQ(file.tensors.at("blk.0.ffn_gate_exps.bias").values, experts_of(config, kExpertsGateUpBias, 0, {0, 2}));
  EXPECT_EQ(file.tensors.at("blk.0.ffn_down_exps.weight").values, experts_of(config, kExpertsDown, 0, {0, 1}));
  EXPECT_TRUE(file.tensors.contains("blk.0.attn_sinks.weight") &&
              file.tensors.contains("blk.0.post_attention_norm.weight"));
}

TEST_F(Gguf, DescribesTheModel) {
  const GgufReader file = exported(config_of(Family::kQwen3), GgufNumber::kQ8_0);
  const std::map<std::string, json> expected = {{"general.architecture", "qwen3"},
                                                {"general.type", "model"},
                                                {"general.file_type", 7},
                                                {"general.quantization_version", 2},
                                                {"qwen3.block_count", 2},
                                                {"qwen3.context_length", 32},
                                                {"qwen3.embedding_length", 32},
                                                {"qwen3.feed_forward_length", 64},
                                                {"qwen3.attention.head_count", 6},
                                                {"qwen3.attention.head_count_kv", 2},
                                                {"qwen3.attention.key_length", 16},
                                                {"qwen3.attention.value_length", 16},
                                                {"qwen3.attention.layer_norm_rms_epsilon", 1e-6f},
                                                {"qwen3.rope.dimension_count", 16},
                                                {"qwen3.rope.freq_base", 10000.0f},
                                                {"qwen3.vocab_size", kVocabSize},
                                                {"tokenizer.chat_template", "{{ x }}"}};
  for (const auto& [key, value] : expected) EXPECT_EQ(file.metadata.at(key), value) << key;
  EXPECT_EQ(file.metadata.at("general.name"), std::filesystem::path(directory_.path()).filename().string());
  EXPECT_EQ(file.metadata.at("tokenizer.ggml.tokens").size(), kVocabSize);
}

TEST_F(Gguf, ScalesRope) {
  ModelConfig config = config_of(Family::kLlama);
  config.rope = {.kind = RopeConfig::Kind::kLinear, .factor = 4};
  const GgufReader linear = exported(config);
  EXPECT_EQ(linear.metadata.at("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(linear.metadata.at("llama.rope.scaling.factor"), 4.0f);
  EXPECT_FALSE(linear.tensors.contains("rope_freqs.weight"));

  config.rope = {.kind = RopeConfig::Kind::kLlama3,
                 .factor = 8,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_max_position_embeddings = 64};
  const GgufReader llama3 = exported(config);
  EXPECT_FALSE(llama3.metadata.contains("llama.rope.scaling.type"));
  const ReadTensor& factors = llama3.tensors.at("rope_freqs.weight");
  EXPECT_EQ(factors.type, 0u);
  ASSERT_EQ(factors.values.size(), 8u);
  for (int i = 0; i < 8; ++i) {
    const double turns = 64 * std::pow(10000.0, -i / 8.0) / (2 * M_PI);  // within the original context
    const double blend = std::clamp((turns - 1) / 3, 0.0, 1.0);
    EXPECT_NEAR(factors.values[i], 1 / ((1 - blend) / 8 + blend), 1e-5) << i;
  }
}

TEST_F(Gguf, OfGemmaHasNormsThatMultiplyByThemselves) {
  ModelConfig config = config_of(Family::kGemma3);
  config.norm.weight_offset = 1;
  config.norm_placement = NormPlacement::kAround;
  config.qk_norm = QkNorm::kHead;
  config.sliding_window = {8, 8};
  write_tiny_model(directory_, config);
  const std::vector<GgufTensor> tensors = gguf_tensors(config, GgufNumber::kBf16, "DIR");
  std::map<std::string, float> addends;
  for (const GgufTensor& tensor : tensors) addends[tensor.info.name] = tensor.addend;
  for (const char* norm :
       {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm"})
    EXPECT_EQ(addends.at("blk.1." + std::string(norm) + ".weight"), 1) << norm;
  EXPECT_EQ(addends.at("output_norm.weight"), 1);
  EXPECT_EQ(addends.at("blk.1.ffn_up.weight"), 0);
  EXPECT_EQ(addends.at("token_embd.weight"), 0);
  const GgufMetadata metadata = gguf_model_metadata(config, GgufNumber::kBf16, "name");
  const auto value = [&](const std::string& key) -> GgufValue {
    for (const auto& [name, of_name] : metadata)
      if (name == key) return of_name;
    return {};
  };
  EXPECT_EQ(value("general.architecture"), GgufValue(std::string("gemma3")));
  EXPECT_EQ(value("gemma3.attention.sliding_window"), GgufValue(uint32_t{8}));
  EXPECT_EQ(value("gemma3.context_length"), GgufValue(uint32_t{32}));
}

TEST_F(Gguf, ScalesWithYarnAndLongRope) {
  ModelConfig config = config_of(Family::kQwen3);
  config.rope = {.kind = RopeConfig::Kind::kYarn, .factor = 4, .original_max_position_embeddings = 8};
  config.rope.attention_factor = 2 * (1 + 0.1 * std::log(4.0));  // twice what llama.cpp has by itself
  const GgufReader yarn = exported(config);
  EXPECT_EQ(yarn.metadata.at("qwen3.rope.scaling.type"), "yarn");
  EXPECT_EQ(yarn.metadata.at("qwen3.rope.scaling.original_context_length"), 8);
  EXPECT_NEAR(yarn.metadata.at("qwen3.rope.scaling.attn_factor").get<float>(), 2, 1e-6);

  config = config_of(Family::kPhi3);
  config.has_fused_qkv = config.has_fused_gate_up = true;
  config.rope = {.kind = RopeConfig::Kind::kLongRope, .factor = 4, .original_max_position_embeddings = 8};
  config.rope.short_factor = std::vector<double>(8, 1.5);
  config.rope.long_factor = std::vector<double>(8, 2.5);
  const GgufReader longrope = exported(config);
  EXPECT_EQ(longrope.tensors.at("rope_factors_long.weight").values, std::vector<float>(8, 2.5f));
  EXPECT_EQ(longrope.tensors.at("rope_factors_short.weight").values, std::vector<float>(8, 1.5f));
  ASSERT_FALSE(notes_.empty());
  EXPECT_NE(notes_.back().find("-c 8"), std::string::npos) << notes_.back();
}

TEST_F(Gguf, EndsWhereLlamaCppHasNoSlidingWindow) {
  ModelConfig config = config_of(Family::kMistral);
  config.sliding_window = {16, 16};
  EXPECT_EQ(exported(config).metadata.at("llama.context_length"), 16);
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_NE(notes_[0].find("up to 16 tokens"), std::string::npos) << notes_[0];
}

TEST_F(Gguf, LeavesRowsThatAreNoWholeBlocksInFloat32) {
  ModelConfig config = config_of(Family::kLlama);
  config.intermediate_size = 40;
  const GgufReader file = exported(config, GgufNumber::kQ8_0);
  EXPECT_EQ(file.tensors.at("blk.0.ffn_down.weight").type, 0u);
  EXPECT_EQ(file.tensors.at("blk.0.ffn_up.weight").type, 8u);
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_EQ(notes_[0], "2 matrices are float32, as their rows are no multiple of 32 elements");
}

TEST(GgufModel, RefusesByNameWhatLlamaCppDoesNotRun) {
  const auto refusal = [](const ModelConfig& config) {
    return message_of<DataError>([&] { check_gguf_model(config, "DIR"); });
  };
  ModelConfig config = config_of(Family::kLlama);
  config.head = HeadKind::kScore;
  EXPECT_NE(refusal(config).find("llama.cpp runs no reward models"), std::string::npos) << refusal(config);
  config = config_of(Family::kQwen3);
  config.has_qkv_bias = config.has_o_bias = true;
  EXPECT_NE(refusal(config).find("expected no attention_bias"), std::string::npos) << refusal(config);
  config = config_of(Family::kQwen2);
  config.rope.kind = RopeConfig::Kind::kLlama3;
  EXPECT_NE(refusal(config).find("got llama3"), std::string::npos) << refusal(config);
  config.rope.kind = RopeConfig::Kind::kYarn;
  EXPECT_NO_THROW(check_gguf_model(config, "DIR"));
  config.rope.truncates_ramp = false;
  EXPECT_NE(refusal(config).find("got truncate false"), std::string::npos) << refusal(config);
  config.rope.kind = RopeConfig::Kind::kDynamic;
  EXPECT_NE(refusal(config).find("no dynamic rope scaling"), std::string::npos) << refusal(config);
  config = config_of(Family::kGemma2);
  config.sliding_window = {0, 8};
  EXPECT_NE(refusal(config).find("in the order that llama.cpp has"), std::string::npos) << refusal(config);
  config.sliding_window = {8, 0};
  EXPECT_NO_THROW(check_gguf_model(config, "DIR"));
  config.score_scale = 0.1;
  EXPECT_NE(refusal(config).find("query_pre_attn_scalar"), std::string::npos) << refusal(config);
  config = config_of(Family::kSmolLm3);
  config.is_unrotated = {true, false};
  EXPECT_NE(refusal(config).find("without rotary embedding"), std::string::npos) << refusal(config);
  config = mixture_of(Family::kQwen3Moe);
  config.mixture.renormalizes = false;
  EXPECT_NE(refusal(config).find("expected norm_topk_prob true"), std::string::npos) << refusal(config);
  config = mixture_of(Family::kGptOss);
  config.mixture.swiglu_limit = 5;
  EXPECT_NE(refusal(config).find("swiglu_limit of 7"), std::string::npos) << refusal(config);
  config = config_of(Family::kLlama);
  config.rope.partial_rotary_factor = 0.5;
  EXPECT_NE(refusal(config).find("whole heads"), std::string::npos) << refusal(config);
}

TEST(GgufNumbers, QuantizeAsGgmlDoes) {
  std::vector<float> values(64, 0.0f);
  values[0] = 127.0f;
  values[1] = -2.5f;  // ties go away from zero
  values[2] = 0.5f;
  values[3] = 1e-40f;
  std::vector<std::byte> bytes(encoded_bytes(GgufNumber::kQ8_0, 64));
  ASSERT_EQ(bytes.size(), 68u);
  encode(GgufNumber::kQ8_0, values, bytes);
  const auto at = [&](size_t i) { return static_cast<int>(static_cast<int8_t>(bytes[i])); };
  EXPECT_EQ(at(0), 0x00);  // float16 1.0
  EXPECT_EQ(at(1), 0x3c);
  EXPECT_EQ(std::vector<int>({at(2), at(3), at(4), at(5)}), std::vector<int>({127, -3, 1, 0}));
  for (size_t i = 34; i < 68; ++i) EXPECT_EQ(at(i), 0);  // a block of zeros
  values.assign(64, 1e-40f);
  encode(GgufNumber::kQ8_0, values, bytes);
  for (size_t i = 0; i < 68; ++i) EXPECT_EQ(at(i), 0);
  values[0] = 1e9f;
  EXPECT_THROW(encode(GgufNumber::kQ8_0, values, bytes), DataError);
}

}  // namespace
}  // namespace plumb
