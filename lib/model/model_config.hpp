// The hyperparameters of a decoder, read from a Hugging Face config.json of transformers 4 or 5.
// Source: the configuration classes of transformers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class Family { kLlama, kMistral, kMinistral, kQwen2, kQwen3 };

/// The layer after the last block: logits over the vocabulary (*ForCausalLM), or one score per text
/// (*ForSequenceClassification with one label: a reward model).
enum class HeadKind { kLanguageModel, kScore };

/// Rotary embedding. Source of the llama3 scaling: transformers modeling_rope_utils, Llama 3.1.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3 };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  int64_t original_max_position_embeddings = 8192;
};

struct ModelConfig {
  Family family = Family::kLlama;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  /// The tokens that a query attends to, itself included; 0: all before it. One entry per layer.
  std::vector<int64_t> sliding_window;
  bool ties_embeddings = false;
  HeadKind head = HeadKind::kLanguageModel;
  bool has_qkv_bias = false;  // Qwen2
  bool has_o_bias = false;    // attention_bias of Llama and Qwen3
  bool has_qk_norm = false;   // Qwen3
  double initializer_range = 0.02;
  int32_t bos_token_id = -1;  // -1: none
  std::vector<int32_t> eos_token_ids;
  /// pad_token_id of a config.json: as an input this token gives the embedding no gradient (padding_idx of
  /// transformers). -1: none.
  int64_t frozen_input_token = -1;
  int32_t pad_token_id = -1;  // -1: none; a score is read at the last token with another id
  bool is_quantized = false;  // block matrices are NF4 in the files; not a property of the model, so not rendered

  /// Embedding and head are one matrix and therefore one unit. A score head is never tied.
  bool shares_head() const { return ties_embeddings && head == HeadKind::kLanguageModel; }
};

/// Parses the text of a config.json; its architecture decides the head. `where` begins messages. Throws DataError for
/// missing or implausible numbers, and for an unsupported family, activation, RoPE scaling or quantization, listing the
/// supported ones.
ModelConfig parse_model_config(std::string_view json_text, std::string_view where);

/// Renders config.json in the form of transformers 5, so that it parses back to `config`. dtype: "float32" or
/// "bfloat16".
std::string render_model_config(const ModelConfig& config, std::string_view dtype);

}  // namespace plumb
