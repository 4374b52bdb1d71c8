// Unicode normalization of one part of a text, in time linear in its size except for sorting runs of combining marks.
// Source: UAX #15.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

/// Converts `part`, which is valid UTF-8, to the given form. Throws DataError if utf8proc cannot.
std::string to_unicode_form(std::string_view part, UnicodeForm form);

/// Appends the lowercase of one code point, mapped without context.
void append_lowercase(std::string& out, char32_t value);

}  // namespace plumb
