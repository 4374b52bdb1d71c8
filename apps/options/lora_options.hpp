// The options of low-rank adapters, with TRL's names, and the adapter_config.json that they make.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/options/options.hpp"
#include "io/huggingface/peft_config.hpp"
#include "lib/model/lora.hpp"

namespace plumb {

/// How the frozen model is held.
enum class Quantization { kNone, kNf4 };

/// The names of --quantize.
template <>
inline constexpr auto kNames<Quantization> = std::to_array<Named<Quantization>>({{"none", Quantization::kNone},
                                                                                 {"nf4", Quantization::kNf4}});

struct LoraOptions {
  int64_t lora_r = 0;  // 0: no adapter, unless one is continued
  double lora_alpha = 32;
  double lora_dropout = 0;
  /// Names; "all-linear"; or one regular expression over whole module paths.
  std::vector<std::string> lora_target_modules = {"q_proj", "k_proj", "v_proj", "o_proj"};
  std::vector<std::string> lora_target_parameters;  // fused experts
  std::string lora_rank_pattern;                    // "down_proj=4,q_proj=16"
  std::string lora_alpha_pattern;                   // "q_proj=64"
  std::vector<std::string> lora_modules_to_save;
  std::vector<std::string> lora_trainable_token_indices;  // "513 514" or "embed_tokens=513,514 lm_head=513"
  bool lora_ensure_weight_tying = false;
  bool use_rslora = false;
  bool use_dora = false;
  std::string adapter;  // PEFT directory of an adapter whose training continues
  Quantization quantize = Quantization::kNone;

  /// An adapter is trained, and the base is frozen.
  bool is_used() const { return lora_r > 0 || !adapter.empty(); }
};

std::vector<BoundOption> bind_options(LoraOptions& options);

/// Throws UsageError for values that contradict each other.
void validate(const LoraOptions& options);

/// The options of an adapter that were changed although no adapter is trained: "--use_dora, --lora_alpha" or "".
std::string options_without_adapter(const LoraOptions& options);

/// The configuration of a new adapter. task_type: "CAUSAL_LM" or "SEQ_CLS" (whose score is trained in full and saved).
/// Throws UsageError for malformed patterns.
LoraConfig lora_config(const LoraOptions& options, const std::string& task_type, const std::string& base_model);

/// As splits_tied_head(), but throws UsageError.
bool options_split_tied_head(const LoraOptions& options);

/// As resolve_adapter(), but throws UsageError, also for a pattern that names no module with an adapter.
Adapter resolve_options(const LoraConfig& config, const ModelConfig& model);

}  // namespace plumb
