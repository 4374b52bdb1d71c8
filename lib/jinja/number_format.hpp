// Python's format(value, spec): what follows the colon in "{:>8.2f}".
// Source: the Python standard library reference, "Format Specification Mini-Language".
#pragma once

#include <string>

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

/// Digits, padding and all else that the formatter itself writes get `mark`.
Text format_value(Runtime& runtime, const Value& value, const Text& spec, char mark);

/// The digits of a finite magnitude for the types e, f, g and their capitals; inf and nan as words. `is_alternate`
/// keeps the point.
std::string float_digits(Runtime& runtime, double magnitude, char type, int64_t precision, bool is_alternate);

std::string integer_digits(uint64_t magnitude, char type);  // types b, o, x, X, and decimal for all others
uint64_t magnitude_of(int64_t integer);
/// One character of that code point, always as a user's, because a number may have come from one.
Text character_of(Runtime& runtime, int64_t code_point);

}  // namespace plumb::jinja
