// adapter_config.json: what a PEFT adapter of type LoRA says of itself. What plumb cannot train or run as PEFT would is
// refused by name, never passed over; keys that change nothing are. Source: PEFT 0.21, tuners/lora/config.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// A JSON list of names, or a string that is a regular expression over whole module paths ("all-linear": all matrices
/// of the blocks). At most one of the two is there.
struct ModuleSelection {
  std::vector<std::string> names;
  std::string regex;
  bool is_empty() const { return names.empty() && regex.empty(); }
  bool operator==(const ModuleSelection&) const = default;
};

struct LoraConfig {
  std::string base_model = {};  // base_model_name_or_path
  std::string task_type = {};   // "CAUSAL_LM", "SEQ_CLS" or ""
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  ModuleSelection target_modules = {};
  ModuleSelection exclude_modules = {};
  /// From a regular expression that the end of a module path matches to what its layer has instead. The first match
  /// counts, in the order of the keys.
  std::map<std::string, int64_t> rank_pattern = {};
  std::map<std::string, double> alpha_pattern = {};
  std::vector<int64_t> layers_to_transform = {};  // empty: all
  std::vector<std::string> modules_to_save = {};
  bool uses_rslora = false;
  bool uses_dora = false;
  bool operator==(const LoraConfig&) const = default;
};

inline constexpr const char* kLoraConfigFile = "adapter_config.json";
inline constexpr int64_t kMaxLoraConfigBytes = 16 << 20;
inline constexpr int64_t kMaxLoraRank = 1 << 20;

/// `where` names the text in messages. Throws DataError for what is malformed, and for what plumb does not support,
/// saying what.
LoraConfig parse_lora_config(std::string_view json_text, std::string_view where);

/// The text that PEFT and parse_lora_config() read back: those keys that every version of PEFT knows, lists sorted.
std::string render_lora_config(const LoraConfig& config);

}  // namespace plumb
