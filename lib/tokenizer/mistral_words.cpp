#include "lib/tokenizer/mistral_words.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "lib/base/json_fields.hpp"

namespace plumb {

namespace {

constexpr int32_t kMaxRightVocabSize = 100'000;
constexpr auto kMistralTypes =
    std::to_array<std::string_view>({"mistral", "mistral3", "voxtral", "ministral", "pixtral"});
constexpr std::string_view kWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// "4.43.0" and "5.0.0.dev0", but not "5.0.0".
bool is_before_5(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major < 5 ||
         (version.starts_with("5.0.0") && version.find_first_not_of("0123456789.") != std::string_view::npos);
}

}  // namespace

void fix_mistral_words(const TokenizerTexts& texts, const TokenizerConfig& config, TokenizerParts& parts) {
  if (!config.fixes_mistral_regex || texts.model_config.empty() || parts.pre_tokenizer.empty()) return;
  if (parts.vocabulary.size() <= kMaxRightVocabSize) return;
  const Json model = parse_json(texts.model_config, "config.json");
  const std::string type = optional_string_field(model, "model_type", "config.json").value_or("mistral");
  if (std::find(kMistralTypes.begin(), kMistralTypes.end(), type) == kMistralTypes.end()) return;
  if (!is_before_5(optional_string_field(model, "transformers_version", "config.json").value_or(""))) return;
  std::vector<PreTokenizerStep>& steps = parts.pre_tokenizer;
  SplitStep words{Pattern::regex(kWords, "fix_mistral_regex"), SplitBehavior::kIsolated, false};
  if (steps.size() > 1) {
    steps.front() = std::move(words);
    return;
  }
  if (std::holds_alternative<MetaspaceStep>(steps.front())) steps.front() = ByteLevelStep{false, {}};
  steps.insert(steps.begin(), std::move(words));
}

}  // namespace plumb
