// Unicode normalization of text with flags, in time linear in the text but for sorting runs of combining marks.
// Source: UAX #15.
#pragma once

#include <string>
#include <string_view>

#include "lib/tokenizer/normalizer.hpp"

namespace plumb {

/// `part`, valid UTF-8, in the given form. Throws DataError if utf8proc cannot.
std::string to_unicode_form(std::string_view part, UnicodeForm form);

/// The lowercase of one code point, as Unicode maps it without context.
void append_lowercase(std::string& out, char32_t value);

}  // namespace plumb
