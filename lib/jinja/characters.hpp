// Classes of characters as Python's str.isdigit() and the like know them.
// Source: the Python standard library reference, str; the Unicode Character Database.
#pragma once

#include <cstdint>

namespace plumb::jinja {

bool is_letter(int32_t code_point);
bool is_decimal(int32_t code_point);
bool is_digit(int32_t code_point);    // decimals, and digits such as superscripts
bool is_numeric(int32_t code_point);  // digits, fractions, and letters that stand for numbers
bool is_letter_or_number(int32_t code_point);
bool is_printable(int32_t code_point);
bool starts_identifier(int32_t code_point);
bool continues_identifier(int32_t code_point);

}  // namespace plumb::jinja
