#include "io/gguf/gguf_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/gguf/gguf_experts.hpp"
#include "lib/base/check.hpp"
#include "lib/nn/rope.hpp"

namespace plumb {

namespace {

/// How llama.cpp runs a family.
struct GgufFamily {
  Family family;
  const char* architecture;
  bool permutes_qk = false;       // rotates adjacent rows of q and k, where transformers rotates rows half a head apart
  bool has_rope_factors = false;  // divides the frequencies by a tensor, as the scaling of Llama 3 needs
  bool has_o_bias = false;
  bool has_mlp_bias = false;
  int64_t window_pattern = 0;    // every n-th layer attends to all tokens, the others to a window; 0: has no windows
  int64_t unrotated_layers = 0;  // every n-th layer is not rotated; 0: all are
  bool has_post_attention_norm = false;  // the name of the norm before the feed-forward network
  int64_t large_num_layers = 0;          // of the size whose scores are scaled by hidden_size / num_heads; 0: none
};

constexpr GgufFamily kFamilies[] = {
    {.family = Family::kLlama,
     .architecture = "llama",
     .permutes_qk = true,
     .has_rope_factors = true,
     .has_o_bias = true,
     .has_mlp_bias = true},
    {.family = Family::kMistral,
     .architecture = "llama",
     .permutes_qk = true,
     .has_rope_factors = true,
     .has_o_bias = true,
     .has_mlp_bias = true},
    {.family = Family::kMinistral,
     .architecture = "llama",
     .permutes_qk = true,
     .has_rope_factors = true,
     .has_o_bias = true,
     .has_mlp_bias = true},
    {.family = Family::kQwen2, .architecture = "qwen2"},
    {.family = Family::kQwen3, .architecture = "qwen3"},
    {.family = Family::kGemma2, .architecture = "gemma2", .window_pattern = 2, .large_num_layers = 46},
    {.family = Family::kGemma3, .architecture = "gemma3", .window_pattern = 6, .large_num_layers = 62},
    {.family = Family::kPhi3, .architecture = "phi3"},
    {.family = Family::kOlmo2, .architecture = "olmo2"},
    {.family = Family::kOlmo3, .architecture = "olmo2", .window_pattern = 4},
    {.family = Family::kSmolLm3, .architecture = "smollm3", .permutes_qk = true, .unrotated_layers = 4},
    {.family = Family::kGranite, .architecture = "granite", .permutes_qk = true},
    {.family = Family::kCohere2, .architecture = "cohere2", .window_pattern = 4, .unrotated_layers = 4},
    {.family = Family::kGlm4, .architecture = "glm4"},
    {.family = Family::kStarCoder2, .architecture = "starcoder2", .has_o_bias = true, .has_mlp_bias = true},
    {.family = Family::kMixtral, .architecture = "llama", .permutes_qk = true, .has_rope_factors = true},
    {.family = Family::kQwen2Moe, .architecture = "qwen2moe"},
    {.family = Family::kQwen3Moe, .architecture = "qwen3moe"},
    {.family = Family::kGptOss,
     .architecture = "gpt-oss",
     .has_o_bias = true,
     .window_pattern = 2,
     .has_post_attention_norm = true},
};

struct GgufName {
  ParameterKind kind;
  const char* name;  // {} is the layer
};

constexpr GgufName kNamesOfParameters[] = {
    {ParameterKind::kEmbedding, "token_embd.weight"},
    {ParameterKind::kInputNorm, "blk.{}.attn_norm.weight"},
    {ParameterKind::kQ, "blk.{}.attn_q.weight"},
    {ParameterKind::kK, "blk.{}.attn_k.weight"},
    {ParameterKind::kV, "blk.{}.attn_v.weight"},
    {ParameterKind::kQBias, "blk.{}.attn_q.bias"},
    {ParameterKind::kKBias, "blk.{}.attn_k.bias"},
    {ParameterKind::kVBias, "blk.{}.attn_v.bias"},
    {ParameterKind::kQNorm, "blk.{}.attn_q_norm.weight"},
    {ParameterKind::kKNorm, "blk.{}.attn_k_norm.weight"},
    {ParameterKind::kO, "blk.{}.attn_output.weight"},
    {ParameterKind::kOBias, "blk.{}.attn_output.bias"},
    {ParameterKind::kPostNorm, "blk.{}.ffn_norm.weight"},
    {ParameterKind::kGate, "blk.{}.ffn_gate.weight"},
    {ParameterKind::kUp, "blk.{}.ffn_up.weight"},
    {ParameterKind::kDown, "blk.{}.ffn_down.weight"},
    {ParameterKind::kGateBias, "blk.{}.ffn_gate.bias"},
    {ParameterKind::kUpBias, "blk.{}.ffn_up.bias"},
    {ParameterKind::kDownBias, "blk.{}.ffn_down.bias"},
    {ParameterKind::kQkv, "blk.{}.attn_qkv.weight"},
    {ParameterKind::kGateUp, "blk.{}.ffn_up.weight"},
    {ParameterKind::kAttentionOutNorm, "blk.{}.post_attention_norm.weight"},
    {ParameterKind::kFeedForwardOutNorm, "blk.{}.post_ffw_norm.weight"},
    {ParameterKind::kInputNormBias, "blk.{}.attn_norm.bias"},
    {ParameterKind::kPostNormBias, "blk.{}.ffn_norm.bias"},
    {ParameterKind::kFinalNormBias, "output_norm.bias"},
    {ParameterKind::kFinalNorm, "output_norm.weight"},
    {ParameterKind::kHead, "output.weight"},
    {ParameterKind::kSinks, "blk.{}.attn_sinks.weight"},
    {ParameterKind::kRouter, "blk.{}.ffn_gate_inp.weight"},
    {ParameterKind::kRouterBias, "blk.{}.ffn_gate_inp.bias"},
    {ParameterKind::kSharedGate, "blk.{}.ffn_gate_shexp.weight"},
    {ParameterKind::kSharedUp, "blk.{}.ffn_up_shexp.weight"},
    {ParameterKind::kSharedDown, "blk.{}.ffn_down_shexp.weight"},
    {ParameterKind::kSharedRouter, "blk.{}.ffn_gate_inp_shexp.weight"},
};

const GgufFamily* find_family(Family family) {
  const auto* found =
      std::find_if(std::begin(kFamilies), std::end(kFamilies), [&](const auto& row) { return row.family == family; });
  return found == std::end(kFamilies) ? nullptr : found;
}

const GgufFamily& family_of(const ModelConfig& config) {
  const GgufFamily* family = find_family(config.family);
  check(family != nullptr, "the model was checked");
  return *family;
}

std::string tensor_name(const GgufFamily& family, const Parameter& parameter, std::string_view where) {
  if (parameter.kind == ParameterKind::kPostNorm && family.has_post_attention_norm)
    return fmt::format("blk.{}.post_attention_norm.weight", parameter.layer);
  for (const auto& [kind, name] : kNamesOfParameters)
    if (kind == parameter.kind) return fmt::format(fmt::runtime(name), parameter.layer);
  throw_error<DataError>(
      "{}: expected a model that llama.cpp runs, but it has no place in a GGUF file for a parameter "
      "of block {}; export a Hugging Face directory instead",
      where, parameter.layer);
}

/// llama.cpp's code of a file of mostly this format (llama_ftype).
uint32_t file_type(GgufNumber number) {
  if (number == GgufNumber::kF32) return 0;
  return number == GgufNumber::kQ8_0 ? 7 : 32;
}

bool is_rotated(ParameterKind kind) {
  using enum ParameterKind;
  return kind == kQ || kind == kK || kind == kQBias || kind == kKBias;
}

/// Every n-th of the layers, of which a pattern speaks.
bool is_nth(int64_t layer, int64_t n) { return layer % n == n - 1; }

bool is_float32(const Parameter& parameter, const GgufTensorInfo& info, GgufNumber number) {
  return parameter.kind == ParameterKind::kRouter || info.shape.size() == 1 ||
         (number == GgufNumber::kQ8_0 && info.row_elements() % kQ8BlockElements != 0);
}

/// By what llama.cpp divides each frequency.
GgufTensor factors(const char* name, const std::vector<double>& values) {
  return {.info = {name, {std::ssize(values)}}, .values = {values.begin(), values.end()}};
}

std::vector<double> llama3_factors(const ModelConfig& config) {
  RopeConfig plain = config.rope;
  plain.kind = RopeConfig::Kind::kDefault;
  const auto frequencies = rope_frequencies(plain, config, config.max_position_embeddings);
  const auto scaled = rope_frequencies(config.rope, config, config.max_position_embeddings);
  std::vector<double> ratios;
  for (size_t i = 0; i < scaled.size(); ++i) ratios.push_back(frequencies[i] / scaled[i]);
  return ratios;
}

bool has_windows(const ModelConfig& config) {
  return std::any_of(config.sliding_window.begin(), config.sliding_window.end(), [](int64_t w) { return w > 0; });
}

/// The reason to refuse the rotary embedding: "expected ...", or "".
std::string_view refused_rope(const ModelConfig& config, const GgufFamily& family) {
  using Kind = RopeConfig::Kind;
  const Kind kind = config.rope.kind;
  if (kind == Kind::kDynamic) return "no dynamic rope scaling, which llama.cpp has not; got it";
  if (kind == Kind::kLongRope && family.family != Family::kPhi3)
    return "no longrope scaling, which llama.cpp has for Phi-3 only; got it";
  if (kind == Kind::kLlama3 && !family.has_rope_factors)
    return "no rope scaling or linear, as llama.cpp has no other for this family; got llama3";
  if (kind == Kind::kYarn && !config.rope.truncates_ramp && config.family != Family::kGptOss)
    return "YaRN with whole dimensions at the ends of its ramp, as llama.cpp has it; got truncate false";
  if (config.rope.partial_rotary_factor != 1 && config.family != Family::kPhi3 && config.family != Family::kGlm4)
    return "rotary embedding of whole heads, as llama.cpp has it for this family; got a partial_rotary_factor";
  if (config.sliding_rope && config.family == Family::kGemma3 &&
      (config.sliding_rope->theta != 1e4 || config.sliding_rope->kind != Kind::kDefault))
    return "a rope_local_base_freq of 10000 without scaling, as llama.cpp has it; got another one";
  return "";
}

std::string_view refused_layers(const ModelConfig& config, const GgufFamily& family) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const bool has_window = config.sliding_window[layer] > 0, is_rotated = config.rope_of(layer) != nullptr;
    if (family.window_pattern > 0 && has_windows(config) && has_window == is_nth(layer, family.window_pattern))
      return "layers with and without sliding window in the order that llama.cpp has; got another one";
    if (is_rotated == (family.unrotated_layers > 0 && is_nth(layer, family.unrotated_layers)))
      return "layers without rotary embedding where llama.cpp has them; got others";
  }
  return "";
}

std::string_view refused_scale(const ModelConfig& config, const GgufFamily& family) {
  if (config.family == Family::kGranite || config.score_scale == 0) return "";
  const bool is_large = family.large_num_layers == config.num_layers;
  const auto divisor = static_cast<double>(is_large ? config.hidden_size / config.num_heads : config.head_dim);
  if (std::abs(config.score_scale * std::sqrt(divisor) - 1) < 1e-6) return "";
  return "the query_pre_attn_scalar that llama.cpp assumes for the family and size; got another one";
}

}  // namespace

void check_gguf_model(const ModelConfig& config, std::string_view where) {
  const GgufFamily* family = find_family(config.family);
  std::string_view reason;
  if (config.head != HeadKind::kLanguageModel) {
    reason = "a language model, as llama.cpp runs no reward models; got a score head";
  } else if (family == nullptr) {
    reason = "a family that llama.cpp runs; got another one";
  } else if (config.has_o_bias && !family->has_o_bias) {
    reason = "no attention_bias, as llama.cpp has none for this family; got true";
  } else if (config.has_mlp_bias && !family->has_mlp_bias) {
    reason = "no mlp_bias, as llama.cpp has none for this family; got true";
  } else {
    for (const auto refuses : {refused_rope, refused_layers, refused_scale})
      if (reason.empty()) reason = refuses(config, *family);
    if (reason.empty()) reason = refused_experts(config);
  }
  if (!reason.empty())
    throw_error<DataError>("{}: GGUF: expected {}; a Hugging Face directory has room for it", where, reason);
}

int64_t gguf_context_length(const ModelConfig& config) {
  int64_t length = config.max_position_embeddings;
  if (family_of(config).window_pattern > 0) return length;
  for (const int64_t window : config.sliding_window)
    if (window > 0) length = std::min(length, window);
  return length;
}

namespace {

using Entries = std::vector<std::pair<const char*, GgufValue>>;

Entries rope_metadata(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  Entries entries = {{"rope.dimension_count", static_cast<uint32_t>(rope.rotated_dim(config.head_dim))},
                     {"rope.freq_base", static_cast<float>(rope.theta)}};
  const auto add = [&](const char* key, double value) { entries.emplace_back(key, static_cast<float>(value)); };
  if (rope.kind == RopeConfig::Kind::kLinear || rope.kind == RopeConfig::Kind::kYarn) {
    entries.emplace_back("rope.scaling.type", std::string(rope.kind == RopeConfig::Kind::kLinear ? "linear" : "yarn"));
    add("rope.scaling.factor", rope.factor);
  }
  if (rope.kind == RopeConfig::Kind::kYarn || rope.kind == RopeConfig::Kind::kLongRope)
    entries.emplace_back("rope.scaling.original_context_length",
                         static_cast<uint32_t>(rope.original_max_position_embeddings));
  if (rope.kind == RopeConfig::Kind::kYarn) {
    // llama.cpp multiplies by this beside 1 + 0.1 ln(factor)
    add("rope.scaling.attn_factor", rope_amplitude(rope) / (1 + 0.1 * std::log(rope.factor)));
    add("rope.scaling.yarn_beta_fast", rope.beta_fast);
    add("rope.scaling.yarn_beta_slow", rope.beta_slow);
  }
  if (rope.kind == RopeConfig::Kind::kLongRope) add("rope.scaling.attn_factor", rope_amplitude(rope));
  return entries;
}

/// Factors and caps that are no property of the architecture.
Entries scales(const ModelConfig& config) {
  Entries entries;
  const auto add = [&](const char* key, double value) { entries.emplace_back(key, static_cast<float>(value)); };
  if (config.score_cap > 0) add("attn_logit_softcapping", config.score_cap);
  if (config.logits.cap > 0) add("final_logit_softcapping", config.logits.cap);
  if (config.family == Family::kCohere2) add("logit_scale", config.logits.scale);
  if (config.family != Family::kGranite) return entries;
  add("attention.scale", config.score_scale > 0 ? config.score_scale : 1 / std::sqrt(config.head_dim));
  add("embedding_scale", config.embedding_multiplier);
  add("residual_scale", config.residual_multiplier);
  add("logit_scale", 1 / config.logits.scale);  // a divisor here
  return entries;
}

}  // namespace

GgufMetadata gguf_model_metadata(const ModelConfig& config, GgufNumber number, std::string_view name) {
  const std::string architecture = family_of(config).architecture;
  GgufMetadata metadata = {{"general.architecture", architecture},
                           {"general.type", std::string("model")},
                           {"general.name", std::string(name)}};
  const auto add = [&](const char* key, GgufValue value) {
    metadata.emplace_back(architecture + "." + key, std::move(value));
  };
  const auto add_count = [&](const char* key, int64_t count) { add(key, static_cast<uint32_t>(count)); };
  add_count("block_count", config.num_layers);
  add_count("context_length", gguf_context_length(config));
  add_count("embedding_length", config.hidden_size);
  add_count("feed_forward_length", config.intermediate_size);
  add_count("attention.head_count", config.num_heads);
  add_count("attention.head_count_kv", config.num_kv_heads);
  add_count("attention.key_length", config.head_dim);
  add_count("attention.value_length", config.head_dim);
  add(config.norm.kind == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
      static_cast<float>(config.norm.epsilon));
  if (family_of(config).window_pattern > 0 && has_windows(config))
    add_count("attention.sliding_window",
              *std::max_element(config.sliding_window.begin(), config.sliding_window.end()));
  for (const auto& [key, count] : expert_counts(config)) add_count(key, count);
  for (const auto& [key, value] : rope_metadata(config)) add(key, value);
  for (const auto& [key, value] : scales(config)) add(key, value);
  add_count("vocab_size", config.vocab_size);
  metadata.emplace_back("general.file_type", file_type(number));
  if (number == GgufNumber::kQ8_0) metadata.emplace_back("general.quantization_version", uint32_t{2});
  return metadata;
}

std::vector<GgufTensor> gguf_tensors(const ModelConfig& config, GgufNumber number, std::string_view where) {
  std::vector<GgufTensor> tensors;
  const std::vector<UnitLayout> units = unit_layouts(config);
  const GgufFamily& family = family_of(config);
  for (size_t unit = 0; unit < units.size(); ++unit) {
    for (size_t i = 0; i < units[unit].parameters.size(); ++i) {
      const Parameter& parameter = units[unit].parameters[i];
      if (is_of_experts(parameter)) continue;
      GgufTensor tensor{
          .info = {tensor_name(family, parameter, where), parameter.shape}, .unit = unit, .parameters = {i}};
      if (parameter.kind == ParameterKind::kSharedRouter) tensor.info.shape = {config.hidden_size};
      if (!is_float32(parameter, tensor.info, number)) tensor.info.number = number;
      if (family.permutes_qk && is_rotated(parameter.kind)) tensor.permuted_rows = config.head_dim;
      if (is_norm_weight(parameter.kind)) tensor.addend = static_cast<float>(config.norm.weight_offset);
      tensors.push_back(std::move(tensor));
    }
    for (GgufTensor& tensor : expert_tensors(config, units[unit], unit, number)) {
      if (tensor.info.number == GgufNumber::kQ8_0 && tensor.info.row_elements() % kQ8BlockElements != 0)
        tensor.info.number = GgufNumber::kF32;
      tensors.push_back(std::move(tensor));
    }
  }
  if (config.rope.kind == RopeConfig::Kind::kLlama3)
    tensors.push_back(factors("rope_freqs.weight", llama3_factors(config)));
  if (config.rope.kind == RopeConfig::Kind::kLongRope) {
    tensors.push_back(factors("rope_factors_long.weight", config.rope.long_factor));
    tensors.push_back(factors("rope_factors_short.weight", config.rope.short_factor));
  }
  return tensors;
}

}  // namespace plumb
