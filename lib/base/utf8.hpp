// UTF-8 by hand: the tokenizer works on bytes and needs code points only here and there.
// Source: the Unicode Standard, table 3-7 (well-formed sequences) and section 3.9 (replacement of maximal subparts).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace plumb {

struct CodePoint {
  char32_t value = 0;
  size_t size_bytes = 0;
};

/// `text[at]` must begin a well-formed sequence.
CodePoint code_point_at(std::string_view text, size_t at);

/// Where the sequence that ends at `end` begins; `text` must be well-formed and end > 0.
size_t code_point_before(std::string_view text, size_t end);

void append_code_point(std::string& text, char32_t value);

/// Offset of the first byte that is no valid UTF-8, or npos.
size_t find_invalid_utf8(std::string_view text);

/// Throws DataError with `where` and the byte offset of the first byte of invalid UTF-8.
void check_utf8(std::string_view text, std::string_view where);

/// Every maximal ill-formed part becomes U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

/// The Unicode property White_Space.
bool is_white_space(char32_t value);

}  // namespace plumb
