// What a tokenizer searches for: a literal, or a regular expression in Oniguruma's Ruby dialect, which tokenizer.json
// files are written in. It is translated where PCRE2 reads the same spelling differently (\s \w \b \h \v, inline
// flags, scripts), and refused where it cannot be (nested classes, &&).
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
  /// Throws DataError naming `where`, the offset and the reason if the expression does not compile.
  static Pattern regex(std::string_view expression, std::string_view where);
  /// Throws DataError if `text` is empty.
  static Pattern literal(std::string text, std::string_view where);

  /// All matches from left to right in `matches`, which is cleared. `subject` must be valid UTF-8. Throws DataError if
  /// a match exceeds its budget of steps or stack.
  void find_all(std::string_view subject, std::vector<ByteRange>& matches) const;

 private:
  struct Code;
  Pattern() = default;
  std::string source_;                // the literal, or the expression as it was written
  std::shared_ptr<const Code> code_;  // null for a literal
};

/// What text of `size_bytes` may grow to while it is normalized, split or decoded: beyond what any Unicode form needs,
/// but it stops a hostile file whose steps double the text again and again.
constexpr size_t growth_limit_bytes(size_t size_bytes) { return 64 * size_bytes + 65536; }
/// Throws DataError.
void check_growth(size_t size_bytes, size_t limit_bytes);

}  // namespace plumb
