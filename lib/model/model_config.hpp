// The hyperparameters of a decoder, read from a Hugging Face config.json of transformers 4 or 5. One block serves all
// families; they differ in the switches of ModelConfig. What a family fixes, and what it assumes for absent keys, is a
// row of the table in families.cpp.
// Source: the configuration and modeling classes of transformers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class Family {
  kLlama,
  kMistral,
  kMinistral,
  kQwen2,
  kQwen3,
  kGemma2,
  kGemma3,
  kPhi3,
  kOlmo2,
  kOlmo3,
  kSmolLm3,
  kGranite,
  kCohere2,
  kGlm4,
  kStarCoder2,
  kMixtral,
  kQwen2Moe,
  kQwen3Moe,
  kGptOss,
};

/// The layer after the last block: logits over the vocabulary (*ForCausalLM), or one score per text
/// (*ForSequenceClassification with one label: a reward model).
enum class HeadKind { kLanguageModel, kScore };

/// Rotary embedding: the frequencies of the pairs of a head, and how elements are paired. Source of the scalings:
/// transformers modeling_rope_utils; YaRN, arXiv:2309.00071; LongRoPE, arXiv:2402.13753.
struct RopeConfig {
  enum class Kind { kDefault, kLinear, kLlama3, kDynamic, kYarn, kLongRope };
  Kind kind = Kind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;   // Llama 3
  double high_freq_factor = 4.0;  // Llama 3
  /// The length that scaling extends; for kDynamic max_position_embeddings itself.
  int64_t original_max_position_embeddings = 8192;
  double beta_fast = 32.0, beta_slow = 1.0;                                       // YaRN
  bool truncates_ramp = true;                                                     // YaRN: its edges are whole numbers
  std::optional<double> attention_factor = {}, mscale = {}, mscale_all_dim = {};  // YaRN; LongRoPE the first
  std::vector<double> short_factor = {}, long_factor = {};                        // LongRoPE: one number per pair
  double partial_rotary_factor = 1.0;  // the share of a head that rotates, its first elements
  bool is_interleaved = false;         // pairs are (2i, 2i + 1); otherwise (i, i + half)
  bool operator==(const RopeConfig&) const = default;

  /// Frequencies that depend on the length of the text: documents that share a prefix may not share its keys.
  bool depends_on_length() const { return kind == Kind::kDynamic || kind == Kind::kLongRope; }
  /// Elements of a head that rotate.
  int64_t rotated_dim(int64_t head_dim) const {
    return static_cast<int64_t>(static_cast<double>(head_dim) * partial_rotary_factor);
  }
};

enum class NormKind { kRms, kLayer };

/// x / rms(x) * (weight_offset + weight), or LayerNorm, with a bias or without.
struct NormConfig {
  NormKind kind = NormKind::kRms;
  double epsilon = 1e-6;
  double weight_offset = 0;  // 1: Gemma
  bool has_bias = false;     // StarCoder 2
  bool operator==(const NormConfig&) const = default;
};

/// Which norms a block has; a is attention, f the feed-forward network.
enum class NormPlacement {
  kBefore,    // x + a(N x), then x + f(N x)
  kAfter,     // x + N a(x), then x + N f(x): OLMo 2
  kAround,    // x + N a(N x), then x + N f(N x): Gemma, GLM-4
  kParallel,  // h = N x, then x + a(h) + f(h): Cohere 2
};

/// Norms of queries and keys before they rotate: none, of each head (Qwen3), of all heads together (OLMo 2).
enum class QkNorm { kNone, kHead, kAllHeads };

/// The feed-forward network: down(act(gate) * up), or down(act(up)) for kGelu. GELU is the tanh approximation.
enum class FeedForward { kSwiGlu, kGeGlu, kGelu };

/// A mixture of experts, in place of the feed-forward network of some layers: a router sends each token to a few of
/// many gated networks. See lib/nn/experts.hpp.
struct MixtureConfig {
  int64_t num_experts = 0;         // 0: none
  int64_t num_chosen = 0;          // experts of a token
  int64_t expert_size = 0;         // intermediate size of an expert
  int64_t shared_expert_size = 0;  // of the one that serves all tokens (Qwen2-MoE); 0: none
  bool renormalizes = true;        // the weights of the chosen experts add up to 1
  bool rounds_weights = true;      // to the dtype of the activations
  /// gpt-oss: router and experts have biases, the files hold all experts of a layer in one transposed tensor, and
  /// SwiGLU is clamped at swiglu_limit.
  bool is_gpt_oss = false;
  double swiglu_limit = 7, swiglu_alpha = 1.702;
  double loss_coefficient = 0;  // of the router's loss, as config.json has it
  std::vector<bool> is_dense;   // layers with a plain feed-forward network; empty: none
  bool operator==(const MixtureConfig&) const = default;
};

/// From the product of head and hidden state to logits: cap * tanh(scale * z / cap); a cap of 0 is none.
struct LogitConfig {
  double scale = 1;
  double cap = 0;
  bool operator==(const LogitConfig&) const = default;
};

/// The steps after the last block: the final norm, and logits.
struct OutputConfig {
  NormConfig norm;
  LogitConfig logits;
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
  NormConfig norm;
  NormPlacement norm_placement = NormPlacement::kBefore;
  QkNorm qk_norm = QkNorm::kNone;
  FeedForward feed_forward = FeedForward::kSwiGlu;
  MixtureConfig mixture;
  RopeConfig rope;
  std::optional<RopeConfig> sliding_rope;  // of layers with a window, where it differs (Gemma 3, OLMo 3)
  std::vector<bool> is_unrotated;          // layers without rotary embedding (NoPE); empty: all rotate
  /// The tokens that a query attends to, itself included; 0: all before it. One entry per layer.
  std::vector<int64_t> sliding_window;
  double score_scale = 0;           // of q . k; 0: 1 / sqrt(head_dim)
  double score_cap = 0;             // c tanh(score / c) before the softmax (Gemma 2); 0: none
  double embedding_multiplier = 1;  // of the embedding's output
  double residual_multiplier = 1;   // of what attention and feed-forward add to the residual stream (Granite)
  LogitConfig logits;
  bool ties_embeddings = false;
  HeadKind head = HeadKind::kLanguageModel;
  bool has_qkv_bias = false;
  bool has_o_bias = false;
  bool has_mlp_bias = false;
  bool has_sinks = false;          // one more logit per query head in the softmax, without a value (gpt-oss)
  bool has_fused_qkv = false;      // q, k and v are one matrix of the checkpoint (Phi-3)
  bool has_fused_gate_up = false;  // gate and up are one matrix of the checkpoint (Phi-3, GLM-4)
  double initializer_range = 0.02;
  int32_t bos_token_id = -1;  // -1: none
  std::vector<int32_t> eos_token_ids;
  /// pad_token_id of a config.json: as an input this token gives the embedding no gradient (padding_idx of
  /// transformers). -1: none.
  int64_t frozen_input_token = -1;
  int32_t pad_token_id = -1;  // -1: none; a score is read at the last token with another id
  bool is_quantized = false;  // block matrices are NF4 in the files; not a property of the model, so not rendered
  bool operator==(const ModelConfig&) const = default;

  /// Embedding and head are one matrix and therefore one unit. A score head is never tied.
  bool shares_head() const { return ties_embeddings && head == HeadKind::kLanguageModel; }
  /// Whether a layer is a mixture of experts.
  bool is_mixture(int64_t layer) const {
    return mixture.num_experts > 0 && (mixture.is_dense.empty() || !mixture.is_dense[layer]);
  }
  bool has_gate() const { return feed_forward != FeedForward::kGelu; }
  OutputConfig output() const { return {norm, logits}; }
  /// The rotary embedding of a layer; null: none.
  const RopeConfig* rope_of(int64_t layer) const {
    if (!is_unrotated.empty() && is_unrotated[layer]) return nullptr;
    return sliding_rope && sliding_window[layer] > 0 ? &*sliding_rope : &rope;
  }
  bool rope_depends_on_length() const {
    return rope.depends_on_length() || (sliding_rope && sliding_rope->depends_on_length());
  }
};

/// Parses the text of a config.json; its architecture decides the head. `where` begins messages. Throws DataError for
/// missing or implausible numbers, for an unsupported family, activation, RoPE scaling or quantization, listing the
/// supported ones, and for a key that is neither read nor known to be harmless.
ModelConfig parse_model_config(std::string_view json_text, std::string_view where);

/// Renders config.json so that transformers 4 and 5 read the same model from it, and it parses back to `config`.
/// dtype: "float32" or "bfloat16".
std::string render_model_config(const ModelConfig& config, std::string_view dtype);

}  // namespace plumb
