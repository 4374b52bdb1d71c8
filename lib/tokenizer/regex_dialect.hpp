// From Oniguruma's Ruby dialect of regular expressions to PCRE2's, for what pre-tokenizers are written with.
// Source: Oniguruma doc/RE; pcre2pattern(3).
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// An expression that means to PCRE2 (UTF, UCP, MULTILINE) what `expression` means to Oniguruma. Throws DataError
/// naming `where` for constructs that have no equal there; mere syntax errors are left for PCRE2 to find.
std::string to_pcre2(std::string_view expression, std::string_view where);

}  // namespace plumb
