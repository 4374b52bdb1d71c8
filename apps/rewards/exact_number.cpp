#include "apps/rewards/exact_number.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace plumb {

namespace {

constexpr size_t kMaxDigits = 200;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string without_leading_zeros(std::string digits) {
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  return digits.empty() ? "0" : digits;
}

/// Schoolbook multiplication of digits.
std::string product(const std::string& a, const std::string& b) {
  std::vector<uint32_t> sums(a.size() + b.size());
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t k = 0; k < b.size(); ++k)
      sums[i + k + 1] += static_cast<uint32_t>(a[i] - '0') * static_cast<uint32_t>(b[k] - '0');
  std::string digits(sums.size(), '0');
  uint32_t carry = 0;
  for (size_t i = sums.size(); i-- > 0;) {
    carry += sums[i];
    digits[i] = static_cast<char>('0' + carry % 10);
    carry /= 10;
  }
  return without_leading_zeros(std::move(digits));
}

/// A number and the place after it.
struct Found {
  ExactNumber number;
  size_t end = 0;
};

size_t end_of_digits(std::string_view text, size_t at) {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

/// The end of an integer part with or without thousands commas: 1,234,567 but not 1,2.
size_t end_of_integer(std::string_view text, size_t begin) {
  size_t end = end_of_digits(text, begin);
  if (end - begin > 3) return end;
  while (end < text.size() && text[end] == ',' && end_of_digits(text, end + 1) == end + 4) end += 4;
  return end;
}

/// The exponent after a number; 0 without one. Moves `end` past it.
int exponent_at(std::string_view text, size_t& end) {
  if (end >= text.size() || (text[end] != 'e' && text[end] != 'E')) return 0;
  size_t digits = end + 1;
  if (digits < text.size() && (text[digits] == '+' || text[digits] == '-')) ++digits;
  const size_t last = end_of_digits(text, digits);
  if (last == digits || last - digits > 3 || (last < text.size() && is_letter(text[last]))) return 0;
  const int value = std::atoi(std::string(text.substr(digits, last - digits)).c_str());
  const bool is_negative = text[end + 1] == '-';
  end = last;
  return is_negative ? -value : value;
}

/// The number without a sign that begins at `begin`, a digit or a point before one.
std::optional<Found> decimal_at(std::string_view text, size_t begin) {
  Found found;
  found.end = text[begin] == '.' ? begin : end_of_integer(text, begin);
  std::string digits(text.substr(begin, found.end - begin));
  digits.erase(std::remove(digits.begin(), digits.end(), ','), digits.end());
  int scale = 0;
  if (found.end + 1 < text.size() && text[found.end] == '.' && is_digit(text[found.end + 1])) {
    const size_t end = end_of_digits(text, found.end + 1);
    digits += text.substr(found.end + 1, end - found.end - 1);
    scale = static_cast<int>(std::min<size_t>(end - found.end - 1, kMaxDigits + 1));
    found.end = end;
  }
  const int exponent = exponent_at(text, found.end) - scale;
  if (digits.size() > kMaxDigits || static_cast<size_t>(std::abs(exponent)) > kMaxDigits) return std::nullopt;
  found.number.numerator = digits;
  (exponent >= 0 ? found.number.numerator : found.number.denominator)
      .append(static_cast<size_t>(std::abs(exponent)), '0');
  found.number.numerator = without_leading_zeros(found.number.numerator);
  return found;
}

bool begins_number(std::string_view text, size_t at) {
  if (at >= text.size()) return false;
  return is_digit(text[at]) || (text[at] == '.' && at + 1 < text.size() && is_digit(text[at + 1]));
}

/// "a/b" where b is a number other than 0, else a.
Found with_denominator(std::string_view text, Found found) {
  if (found.end >= text.size() || text[found.end] != '/' || !begins_number(text, found.end + 1)) return found;
  const std::optional<Found> below = decimal_at(text, found.end + 1);
  if (!below || below->number.numerator == "0") return found;
  return {{false, product(found.number.numerator, below->number.denominator),
           product(found.number.denominator, below->number.numerator)},
          below->end};
}

/// The number between braces, "{-3}"; `end` is after them.
std::optional<Found> braced_number(std::string_view text, size_t at) {
  if (at >= text.size() || text[at] != '{') return std::nullopt;
  ++at;
  const bool is_negative = at < text.size() && text[at] == '-';
  if (is_negative) ++at;
  if (!begins_number(text, at)) return std::nullopt;
  std::optional<Found> found = decimal_at(text, at);
  if (!found || found->end >= text.size() || text[found->end] != '}') return std::nullopt;
  found->number.is_negative = is_negative;
  ++found->end;
  return found;
}

/// \frac{a}{b}, also \dfrac and \tfrac, whose backslash is at `at`.
std::optional<Found> fraction_at(std::string_view text, size_t at) {
  for (const std::string_view name : {"\\frac", "\\dfrac", "\\tfrac"}) {
    if (text.substr(at, name.size()) != name) continue;
    const std::optional<Found> above = braced_number(text, at + name.size());
    const std::optional<Found> below = above ? braced_number(text, above->end) : std::nullopt;
    if (!below || below->number.numerator == "0") return std::nullopt;
    return Found{{above->number.is_negative != below->number.is_negative,
                  product(above->number.numerator, below->number.denominator),
                  product(above->number.denominator, below->number.numerator)},
                 below->end};
  }
  return std::nullopt;
}

/// Whether a minus before `at` belongs to the number: "5-3" is a difference. A currency sign may be between them.
bool has_minus_before(std::string_view text, size_t at) {
  if (at > 0 && text[at - 1] == '$') --at;
  if (at == 0) return false;
  size_t minus = at - 1;
  if (text[minus] != '-') {
    constexpr std::string_view kMinusSign = "\xe2\x88\x92";  // U+2212
    if (at < kMinusSign.size() || text.substr(at - kMinusSign.size(), kMinusSign.size()) != kMinusSign) return false;
    minus = at - kMinusSign.size();
  }
  return minus == 0 || (!is_digit(text[minus - 1]) && !is_letter(text[minus - 1]) && text[minus - 1] != ')');
}

/// The number at `at`, with the sign before it.
std::optional<Found> number_at(std::string_view text, size_t at) {
  std::optional<Found> found;
  if (text[at] == '\\') {
    found = fraction_at(text, at);
  } else if (begins_number(text, at) && !(text[at] == '.' && at > 0 && is_digit(text[at - 1]))) {
    found = decimal_at(text, at);
    if (found) found = with_denominator(text, *found);
  }
  if (found && has_minus_before(text, at)) found->number.is_negative = !found->number.is_negative;
  return found;
}

/// The content of the last \boxed{...}; nullopt without one that is closed.
std::optional<std::string_view> last_boxed(std::string_view text) {
  constexpr std::string_view kBoxed = "\\boxed{";
  const size_t at = text.rfind(kBoxed);
  if (at == std::string_view::npos) return std::nullopt;
  int depth = 1;
  for (size_t i = at + kBoxed.size(); i < text.size(); ++i) {
    depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    if (depth == 0) return text.substr(at + kBoxed.size(), i - at - kBoxed.size());
  }
  return std::nullopt;
}

}  // namespace

bool operator==(const ExactNumber& a, const ExactNumber& b) {
  const std::string left = product(a.numerator, b.denominator), right = product(b.numerator, a.denominator);
  return left == right && (a.is_negative == b.is_negative || left == "0");
}

std::optional<ExactNumber> last_number(std::string_view text) {
  if (const std::optional<std::string_view> boxed = last_boxed(text)) text = *boxed;
  std::optional<ExactNumber> last;
  for (size_t at = 0; at < text.size();) {
    const std::optional<Found> found = number_at(text, at);
    if (found) last = found->number;
    // digits of a number that is none are not numbers of their own
    at = found ? found->end : is_digit(text[at]) ? end_of_digits(text, at) : at + 1;
  }
  return last;
}

std::optional<ExactNumber> marked_number(std::string_view text) {
  constexpr std::string_view kMark = "####";
  const size_t mark = text.rfind(kMark);
  if (mark == std::string_view::npos) return std::nullopt;
  text.remove_prefix(mark + kMark.size());
  for (size_t at = 0; at < text.size(); ++at) {
    if (const std::optional<Found> found = number_at(text, at)) return found->number;
    const char c = text[at];
    const bool is_minus = c == '-' || static_cast<unsigned char>(c) >= 0x80;
    if (c != ' ' && c != '\t' && c != '$' && c != '\\' && !is_minus) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace plumb
