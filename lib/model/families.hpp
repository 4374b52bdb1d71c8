// The differences between model families: the switches that each fixes, and what its configuration class assumes for
// keys that a config.json leaves out. To add a family that the switches of ModelConfig cover, add a row to families.cpp
// and its tensor names to io/huggingface/parameter_names.cpp.
// Source: the configuration and modeling classes of transformers 5.23.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/model/model_config.hpp"

namespace plumb {

/// Where a config.json says which layers have a sliding window. layer_types overrides it, except for kNone.
enum class WindowRule {
  kNone,       // no layer has one
  kAll,        // all layers, if sliding_window is a number
  kQwen,       // the layers from max_window_layers on, with use_sliding_window
  kQwen2Moe,   // the even layers below max_window_layers, with use_sliding_window
  kQwen3Moe,   // all layers, with use_sliding_window
  kPattern,    // all but every n-th layer
  kUnrotated,  // the layers without rotary embedding, with use_sliding_window (SmolLM3)
};

/// Which keys decide the biases of attention.
enum class BiasRule {
  kNone,
  kQkv,               // q, k and v, always
  kAttentionBias,     // attention_bias: q, k, v and o
  kAttentionBiasOn,   // the same, true by default
  kAttentionBiasQkv,  // attention_bias: q, k and v
  kQkvBias,           // qkv_bias: q, k and v, true by default
  kUseBias,           // use_bias: everything
};

/// Which keys describe the experts.
enum class MixtureRule { kNone, kMixtral, kQwen2, kQwen3, kGptOss };

/// Defaults for absent keys of a mixture of experts.
struct MixtureTraits {
  MixtureRule rule = MixtureRule::kNone;
  int64_t num_experts = 0, num_chosen = 0;
  int64_t expert_size = 0, shared_expert_size = 0;
  double loss_coefficient = 0.001;
};

struct FamilyTraits {
  Family family;
  std::string_view model_type;
  std::string_view causal_class;      // of `architectures`
  std::string_view classifier_class;  // of a reward model; empty: transformers has none

  // Defaults for absent keys.
  int64_t vocab_size = 0;    // 0: the key is required
  int64_t num_heads = 0;     // 0: the key is required
  int64_t num_kv_heads = 0;  // 0: num_heads
  int64_t head_dim = 0;      // 0: hidden_size / num_heads
  int64_t max_position_embeddings = 2048;
  int32_t bos_token_id = -1;  // -1: none
  std::array<int32_t, 3> eos_token_ids = {-1, -1, -1};
  int32_t pad_token_id = -1;
  double rope_theta = 1e4;
  double sliding_rope_theta = 0;  // of layers with a window; 0: they rotate as the others do
  double norm_epsilon = 1e-6;
  int64_t sliding_window = 0;  // 0: none
  bool ties_embeddings = false;

  // Fixed by its classes.
  WindowRule window = WindowRule::kNone;
  int64_t window_pattern = 0;  // kPattern: every n-th layer attends to all tokens
  BiasRule bias = BiasRule::kNone;
  bool has_mlp_bias_key = false;
  bool derives_head_dim = false;  // hidden_size / num_heads, whatever head_dim says
  bool may_rotate_part = false;   // reads partial_rotary_factor
  double partial_rotary_factor = 1.0;
  bool is_interleaved = false;
  bool has_fused_qkv = false, has_fused_gate_up = false;
  std::string_view epsilon_key = "rms_norm_eps";
  NormConfig norm = {};
  NormPlacement norm_placement = NormPlacement::kBefore;
  QkNorm qk_norm = QkNorm::kNone;
  FeedForward feed_forward = FeedForward::kSwiGlu;
  MixtureTraits mixture = {};
};

const FamilyTraits& traits_of(Family family);
/// Null if there is none of this model_type.
const FamilyTraits* find_family(std::string_view model_type);
/// The model_type of every family.
std::vector<std::string> family_names();

}  // namespace plumb
