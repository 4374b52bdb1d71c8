// adapter_config.json of a PEFT adapter of type LoRA. Every key is read, known to have no effect on what the adapter
// computes, or refused by name. Source: PEFT 0.21, config.py, tuners/lora/config.py.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plumb {

/// A JSON list of names, or a string with a regular expression over whole module paths ("all-linear": all block
/// matrices). At most one of the two is set.
struct ModuleSelection {
  std::vector<std::string> names;
  std::string regex;
  bool is_empty() const { return names.empty() && regex.empty(); }
  bool operator==(const ModuleSelection&) const = default;
};

/// From a regular expression, which matches the end of a module path, to the value for that layer. As in PEFT, the
/// first that matches counts, in the order of the file.
template <class Value>
using ModulePatterns = std::vector<std::pair<std::string, Value>>;

struct LoraConfig {
  std::string base_model = {};  // base_model_name_or_path
  std::string task_type = {};   // "CAUSAL_LM", "SEQ_CLS" or ""
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  ModuleSelection target_modules = {};
  ModuleSelection exclude_modules = {};
  std::vector<std::string> target_parameters = {};  // parameters that are no layers: fused experts
  ModulePatterns<int64_t> rank_pattern = {};
  ModulePatterns<double> alpha_pattern = {};
  std::vector<int64_t> layers_to_transform = {};  // empty: all
  std::vector<std::string> modules_to_save = {};
  /// trainable_token_indices: from the end of a module path to the rows that are trained.
  std::vector<std::pair<std::string, std::vector<int64_t>>> token_rows = {};
  bool ensures_tying = false;  // ensure_weight_tying: what is one matrix in the base remains one
  bool uses_rslora = false;
  bool uses_dora = false;
  bool operator==(const LoraConfig&) const = default;
};

inline constexpr const char* kLoraConfigFile = "adapter_config.json";
inline constexpr int64_t kMaxLoraConfigBytes = 16 << 20;
inline constexpr int64_t kMaxLoraRank = 1 << 20;

/// The use of a key of the file.
enum class LoraKeyUse {
  kRead,
  kHarmless,  // any value: `reason` says why
  kOffOnly,   // changes what the adapter computes, as `reason` says: accepted while it is null, false or empty
};
struct LoraKey {
  std::string_view name;
  LoraKeyUse use;
  std::string_view reason;
};
/// All keys that plumb knows. Others are accepted while they are off.
std::span<const LoraKey> lora_keys();

/// `where` begins messages. Throws DataError for malformed contents and for unsupported settings, naming them.
LoraConfig parse_lora_config(std::string_view json_text, std::string_view where);

/// Renders text that PEFT and parse_lora_config() read back: the keys that every version of PEFT knows, with sorted
/// lists, patterns in their order.
std::string render_lora_config(const LoraConfig& config);

}  // namespace plumb
