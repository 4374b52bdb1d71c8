// Numbers in text as exact rationals, so that 0.5, .50, 1/2 and \frac{1}{2} are one number and 0.1 + 0.2 never matters.
// Source: the answers of GSM8K ("#### 1,234") and of MATH (\boxed{\frac{1}{2}}).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// numerator / denominator as decimal digits without leading zeros.
struct ExactNumber {
  bool is_negative = false;
  std::string numerator = "0";
  std::string denominator = "1";
};
/// By value.
bool operator==(const ExactNumber& a, const ExactNumber& b);

/// The last number of a text: digits with a sign, thousands commas, decimals, an exponent; a fraction a/b,
/// \frac{a}{b}. If the text has a \boxed{...}, the last number in the last of them. Numbers of more than 200 digits are
/// none.
std::optional<ExactNumber> last_number(std::string_view text);

/// The number after the last "####", at most blanks and a currency sign between them.
std::optional<ExactNumber> marked_number(std::string_view text);

}  // namespace plumb
