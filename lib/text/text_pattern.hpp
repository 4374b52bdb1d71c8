// A user's regular expression for texts that nobody vouches for: in PCRE2's syntax, which is nearly Python's, with a
// bound on the work of a search, so that no text makes it hang.
// Source: pcre2pattern(3), pcre2api(3).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

class TextPattern {
 public:
  /// A dot matches any character, a line end too. Throws UsageError beginning with `option` if it does not compile.
  TextPattern(std::string_view expression, std::string_view option);

  // A search that exceeds its bound finds nothing, and reports it once.

  /// Whether the expression matches the text as a whole.
  bool matches(std::string_view text) const;
  bool is_found_in(std::string_view text) const;
  /// The first group of the last match, or all of the match without groups; nullopt: no match. A group that took no
  /// part in the match is "".
  std::optional<std::string> last_in(std::string_view text) const;

 private:
  struct Code;
  std::string option_, expression_;
  std::shared_ptr<const Code> code_;
};

}  // namespace plumb
