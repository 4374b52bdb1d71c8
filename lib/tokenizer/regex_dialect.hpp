// Translates Oniguruma's Ruby dialect of regular expressions, as far as pre-tokenizers use it, to PCRE2's dialect.
//
// PCRE2 and not Oniguruma runs the expressions because it compiles them to machine code (JIT), and because its match
// limit and JIT stack limit bound the time and memory of an expression from a hostile file. The same library serves the
// patterns of adapter_config.json.
//
// Source: Oniguruma doc/RE; pcre2pattern(3).
#pragma once

#include <string>
#include <string_view>

namespace plumb {

/// Returns an expression that means to PCRE2 (UTF, UCP, MULTILINE) what `expression` means to Oniguruma. Throws
/// DataError with `where` for constructs without an equivalent; plain syntax errors are left for PCRE2 to report.
std::string to_pcre2(std::string_view expression, std::string_view where);

}  // namespace plumb
