// The search patterns of tokenizers: a literal, or a regular expression in Oniguruma's Ruby dialect, in which
// tokenizer.json files are written. Expressions are translated where PCRE2 interprets the same spelling differently (\s
// \w \b \h \v, inline flags, scripts), and refused where they cannot be (classes within classes that are negated, &&).
// Source: Oniguruma doc/RE; pcre2pattern(3).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/marked_text.hpp"

namespace plumb {

class Pattern {
 public:
  /// Throws DataError with `where`, the offset and the reason if the expression does not compile.
  static Pattern regex(std::string_view expression, std::string_view where);
  /// Throws DataError if `text` is empty.
  static Pattern literal(std::string text, std::string_view where);

  /// Stores all matches from left to right in `matches`, which is cleared first. `subject` must be valid UTF-8. Throws
  /// DataError if a match exceeds its budget of steps or stack.
  void find_all(std::string_view subject, std::vector<ByteRange>& matches) const;

  /// Equal if they were written alike.
  bool operator==(const Pattern& other) const {
    return source_ == other.source_ && (code_ == nullptr) == (other.code_ == nullptr);
  }

 private:
  struct Code;
  Pattern() = default;
  std::string source_;                // the literal, or the expression as written
  std::shared_ptr<const Code> code_;  // null for a literal
};

/// The size that text of `size_bytes` may reach while it is normalized, split or decoded. It exceeds what any Unicode
/// form needs, and stops a hostile file whose steps double the text again and again.
constexpr size_t growth_limit_bytes(size_t size_bytes) { return 64 * size_bytes + 65536; }
/// Throws DataError if the size exceeds the limit.
void check_growth(size_t size_bytes, size_t limit_bytes);

}  // namespace plumb
