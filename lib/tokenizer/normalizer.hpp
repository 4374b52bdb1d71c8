// Normalizes text before it is split: the normalizers of tokenizer.json.
// Source: huggingface/tokenizers, normalizers; UAX #15 for the Unicode forms.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lib/tokenizer/pattern.hpp"
#include "lib/tokenizer/unicode_form.hpp"

namespace plumb {

struct PrependText {
  std::string text;  // empty input stays empty
  bool operator==(const PrependText&) const = default;
};
struct ReplaceText {
  Pattern pattern;
  std::string content;
  bool operator==(const ReplaceText&) const = default;
};
struct LowercaseText {
  bool operator==(const LowercaseText&) const = default;
};
struct StripText {
  bool strips_left = true;
  bool strips_right = true;
  bool operator==(const StripText&) const = default;
};
using NormalizerStep = std::variant<PrependText, ReplaceText, UnicodeForm, LowercaseText, StripText>;

/// Parses a `normalizer` value to its steps, with sequences flattened; null gives no steps. Throws DataError for
/// anything unsupported.
std::vector<NormalizerStep> parse_normalizer(const nlohmann::json& value, std::string_view where);

/// Parses the `pattern` of Replace and Split: {"String": ...} or {"Regex": ...}.
Pattern parse_pattern(const nlohmann::json& value, std::string_view where);

/// Normalizes in place. If `user_flags` is not null, it has one byte per byte of `text` (1: from users) and is updated
/// with it. `text` must be valid UTF-8.
void normalize(const std::vector<NormalizerStep>& steps, std::string& text, std::string* user_flags);

}  // namespace plumb
