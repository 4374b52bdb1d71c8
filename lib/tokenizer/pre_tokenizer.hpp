// Splits normalized text into the words that the model tokenizes: the pre-tokenizers of tokenizer.json.
// Source: huggingface/tokenizers, pre_tokenizers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/tokenizer/pattern.hpp"

namespace plumb {

/// How delimiters are kept. In this order, "a--b" gives a,b / a,-,-,b / a-,-,b / a,-,-b / a,--,b.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
struct SplitStep {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool is_inverted = false;  // the pattern matches the words instead of the delimiters
  bool operator==(const SplitStep&) const = default;
};
struct ByteLevelStep {
  bool adds_prefix_space = true;
  std::optional<Pattern> pattern;
  bool operator==(const ByteLevelStep&) const = default;
};
enum class PrependScheme { kAlways, kFirst, kNever };
struct MetaspaceStep {
  Pattern space;                     // the character to replace: " "
  std::string replacement;           // one character
  std::optional<Pattern> delimiter;  // the replacement, if the text is split at it
  PrependScheme scheme = PrependScheme::kAlways;
  bool operator==(const MetaspaceStep&) const = default;
};
using PreTokenizerStep = std::variant<SplitStep, ByteLevelStep, MetaspaceStep>;

/// Words as ranges of `text`.
struct Pieces {
  std::string text;
  std::vector<ByteRange> ranges;  // ascending, none is empty
  bool starts_input = true;       // the first range starts where the user's input starts

  std::string_view piece(size_t i) const {
    return std::string_view(text).substr(ranges[i].begin, ranges[i].end - ranges[i].begin);
  }
};

/// Parses a `pre_tokenizer` value to its steps, with sequences flattened; null gives no steps. Throws DataError for
/// anything unsupported.
std::vector<PreTokenizerStep> parse_pre_tokenizer(const nlohmann::json& value, std::string_view where);

MetaspaceStep make_metaspace(std::string replacement, PrependScheme scheme, bool splits, std::string_view where);

/// Splits every piece further. The text must be valid UTF-8.
void pre_tokenize(const std::vector<PreTokenizerStep>& steps, Pieces& pieces);

/// Reads the fields of Metaspace, which is also a decoder. Throws DataError.
PrependScheme parse_prepend_scheme(const nlohmann::json& value, std::string_view where);
std::string parse_replacement(const nlohmann::json& value, std::string_view where);

}  // namespace plumb
