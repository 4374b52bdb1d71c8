#include "io/gguf/gguf_model.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/nn/rope.hpp"

namespace plumb {

namespace {

/// A family in llama.cpp, which has no sliding window in any of these architectures.
struct GgufFamily {
  Family family;
  const char* architecture;
  bool permutes_qk;       // rotates adjacent rows of q and k, where transformers rotates rows half a head apart
  bool has_rope_factors;  // divides the frequencies by a tensor, as the scaling of Llama 3 needs
  bool has_o_bias;
  bool has_mlp_bias;
};

constexpr GgufFamily kFamilies[] = {
    {Family::kLlama, "llama", true, true, true, true},     {Family::kMistral, "llama", true, true, true, true},
    {Family::kMinistral, "llama", true, true, true, true}, {Family::kQwen2, "qwen2", false, false, false, false},
    {Family::kQwen3, "qwen3", false, false, false, false},
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
    {ParameterKind::kFinalNorm, "output_norm.weight"},
    {ParameterKind::kHead, "output.weight"},
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

std::string tensor_name(const Parameter& parameter, std::string_view where) {
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

bool is_float32(const GgufTensorInfo& info, GgufNumber number) {
  return info.shape.size() == 1 || (number == GgufNumber::kQ8_0 && info.row_elements() % kQ8BlockElements != 0);
}

/// By what llama.cpp divides each frequency.
GgufTensor rope_factors(const ModelConfig& config) {
  RopeConfig plain = config.rope;
  plain.kind = RopeConfig::Kind::kDefault;
  const auto frequencies = rope_frequencies(plain, config, config.max_position_embeddings);
  const auto scaled = rope_frequencies(config.rope, config, config.max_position_embeddings);
  GgufTensor tensor{.info = {"rope_freqs.weight", {std::ssize(scaled)}}};
  for (size_t i = 0; i < scaled.size(); ++i) tensor.values.push_back(frequencies[i] / scaled[i]);
  return tensor;
}

}  // namespace

void check_gguf_model(const ModelConfig& config, std::string_view where) {
  using Kind = RopeConfig::Kind;
  const GgufFamily* family = find_family(config.family);
  const Kind kind = config.rope.kind;
  std::string_view reason;
  if (config.head != HeadKind::kLanguageModel) {
    reason = "a language model, as llama.cpp runs no reward models; got a score head";
  } else if (family == nullptr) {
    reason = "a model of Llama, Mistral, Ministral, Qwen2 or Qwen3; got another family, which is not written yet";
  } else if (kind != Kind::kDefault && kind != Kind::kLinear && kind != Kind::kLlama3) {
    reason = "no rope scaling, linear or llama3; got another one, which is not written yet";
  } else if (kind == Kind::kLlama3 && !family->has_rope_factors) {
    reason = "no rope scaling or linear, as llama.cpp has no other for this family; got llama3";
  } else if (config.rope.partial_rotary_factor != 1) {
    reason = "rotary embedding of whole heads, as llama.cpp has it for this family; got a partial_rotary_factor";
  } else if (config.has_o_bias && !family->has_o_bias) {
    reason = "no attention_bias, as llama.cpp has none for this family; got true";
  } else if (config.has_mlp_bias && !family->has_mlp_bias) {
    reason = "no mlp_bias, as llama.cpp has none for this family; got true";
  }
  if (!reason.empty())
    throw_error<DataError>("{}: GGUF: expected {}; a Hugging Face directory has room for it", where, reason);
}

int64_t gguf_context_length(const ModelConfig& config) {
  int64_t length = config.max_position_embeddings;
  for (const int64_t window : config.sliding_window)
    if (window > 0) length = std::min(length, window);
  return length;
}

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
  add("attention.layer_norm_rms_epsilon", static_cast<float>(config.norm.epsilon));
  add_count("rope.dimension_count", config.head_dim);
  add("rope.freq_base", static_cast<float>(config.rope.theta));
  if (config.rope.kind == RopeConfig::Kind::kLinear) {
    add("rope.scaling.type", std::string("linear"));
    add("rope.scaling.factor", static_cast<float>(config.rope.factor));
  }
  add_count("vocab_size", config.vocab_size);
  metadata.emplace_back("general.file_type", file_type(number));
  if (number == GgufNumber::kQ8_0) metadata.emplace_back("general.quantization_version", uint32_t{2});
  return metadata;
}

std::vector<GgufTensor> gguf_tensors(const ModelConfig& config, GgufNumber number, std::string_view where) {
  std::vector<GgufTensor> tensors;
  const std::vector<UnitLayout> units = unit_layouts(config);
  for (size_t unit = 0; unit < units.size(); ++unit)
    for (size_t i = 0; i < units[unit].parameters.size(); ++i) {
      const Parameter& parameter = units[unit].parameters[i];
      GgufTensor tensor{.info = {tensor_name(parameter, where), parameter.shape}, .unit = unit, .parameter = i};
      if (!is_float32(tensor.info, number)) tensor.info.number = number;
      if (family_of(config).permutes_qk && is_rotated(parameter.kind)) tensor.permuted_rows = config.head_dim;
      tensors.push_back(std::move(tensor));
    }
  if (config.rope.kind == RopeConfig::Kind::kLlama3) tensors.push_back(rope_factors(config));
  return tensors;
}

}  // namespace plumb
