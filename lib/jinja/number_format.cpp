#include "lib/jinja/number_format.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "lib/jinja/print.hpp"

namespace plumb::jinja {

std::string float_digits(Runtime& runtime, double magnitude, char type, int64_t precision, bool is_alternate) {
  constexpr int64_t kMaxPrecision = 4096;
  if (precision > kMaxPrecision) runtime.fail("precision of {}; expected at most {}", precision, kMaxPrecision);
  const bool is_capital = type >= 'A' && type <= 'Z';
  if (!std::isfinite(magnitude)) {
    if (std::isnan(magnitude)) return is_capital ? "NAN" : "nan";
    return is_capital ? "INF" : "inf";
  }
  const char format[] = {
      '%', is_alternate ? '#' : '.', is_alternate ? '.' : '*', is_alternate ? '*' : type, is_alternate ? type : '\0',
      '\0'};
  const int size = std::snprintf(nullptr, 0, format, static_cast<int>(precision), magnitude);
  runtime.charge_text(static_cast<size_t>(size));
  std::string digits(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(digits.data(), digits.size(), format, static_cast<int>(precision), magnitude);
  digits.pop_back();
  return digits;
}

uint64_t magnitude_of(int64_t integer) {
  return integer < 0 ? ~static_cast<uint64_t>(integer) + 1 : static_cast<uint64_t>(integer);
}

std::string integer_digits(uint64_t magnitude, char type) {
  switch (type) {
    case 'b':
      return fmt::format("{:b}", magnitude);
    case 'o':
      return fmt::format("{:o}", magnitude);
    case 'x':
      return fmt::format("{:x}", magnitude);
    case 'X':
      return fmt::format("{:X}", magnitude);
    default:
      return fmt::format("{}", magnitude);
  }
}

Text character_of(Runtime& runtime, int64_t code_point) {
  if (code_point < 0 || code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
    runtime.fail("%c: {} is not a character", code_point);
  std::string bytes;
  append_utf8(bytes, static_cast<int32_t>(code_point));
  return Text(bytes, kUserMark);
}

namespace {

struct FormatSpec {
  Text fill;  // one code point
  char align = '\0';
  char sign = '\0';
  bool drops_negative_zero = false;
  bool is_alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

class SpecParser {
 public:
  SpecParser(Runtime& runtime, const Text& spec) : runtime_(runtime), spec_(spec) {}

  FormatSpec run(bool is_number, char mark) {
    FormatSpec parsed;
    const size_t first_size = spec_.size() == 0 ? 0 : code_point_size(spec_.bytes, 0);
    const bool has_fill = spec_.size() > first_size && is_align(spec_.bytes[first_size]);
    parsed.fill = has_fill ? spec_.part(0, first_size) : Text(" ", mark);
    if (has_fill) at_ = first_size;
    if (is_align(peek())) parsed.align = spec_.bytes[at_++];
    if (peek() == '+' || peek() == '-' || peek() == ' ') parsed.sign = spec_.bytes[at_++];
    parsed.drops_negative_zero = skip('z');
    parsed.is_alternate = skip('#');
    if (!has_fill && skip('0')) {
      parsed.fill = Text("0", mark);
      if (parsed.align == '\0' && is_number) parsed.align = '=';
    }
    parsed.width = std::max<int64_t>(digits(), 0);
    for (const char c : {',', '_'})
      if (skip(c)) {
        if (parsed.grouping != '\0') fail();
        parsed.grouping = c;
      }
    if (parsed.grouping != '\0' && (peek() == ',' || peek() == '_')) fail();
    if (skip('.') && (parsed.precision = digits()) < 0) fail();
    if (at_ < spec_.size()) parsed.type = spec_.bytes[at_++];
    if (at_ < spec_.size()) fail();
    if (parsed.align == '\0') parsed.align = is_number ? '>' : '<';
    return parsed;
  }

  [[noreturn]] void fail() const { runtime_.fail("'{}' is not a format", spec_.bytes.substr(0, 80)); }

 private:
  char peek() const { return at_ < spec_.size() ? spec_.bytes[at_] : '\0'; }
  bool skip(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  // -1 if there are none
  int64_t digits() {
    int64_t number = -1;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      number = std::max<int64_t>(number, 0) * 10 + (peek() - '0');
      if (number > INT32_MAX) runtime_.fail("a width or precision in '{}' is too large", spec_.bytes.substr(0, 80));
    }
    return number;
  }

  Runtime& runtime_;
  const Text& spec_;
  size_t at_ = 0;
};

Text repeated(Runtime& runtime, const Text& fill, size_t count) {
  runtime.charge_text(fill.size() * count);
  Text out;
  for (size_t i = 0; i < count; ++i) out.append(fill);
  return out;
}

// `head` (sign and prefix) stays before the padding where the alignment is '='.
Text padded(Runtime& runtime, const FormatSpec& spec, const Text& head, const Text& body) {
  const size_t size = count_code_points(head.bytes) + count_code_points(body.bytes);
  const auto width = static_cast<size_t>(spec.width);
  const size_t padding = width > size ? width - size : 0;
  const size_t left = spec.align == '<' ? 0 : spec.align == '^' ? padding / 2 : padding;
  Text out;
  if (spec.align == '=') out.append(head);
  runtime.append(out, repeated(runtime, spec.fill, left));
  if (spec.align != '=') out.append(head);
  runtime.append(out, body);
  runtime.append(out, repeated(runtime, spec.fill, padding - left));
  return out;
}

// Groups whole digits; zeros that pad them to `min_size` are grouped too.
std::string grouped(Runtime& runtime, std::string_view digits, char separator, size_t group, size_t min_size) {
  runtime.charge_text(min_size);
  std::string reversed;
  size_t count = 0;
  while (count < digits.size() || reversed.size() < min_size) {
    if (count > 0 && count % group == 0) reversed += separator;
    reversed += count < digits.size() ? digits[digits.size() - 1 - count] : '0';
    ++count;
  }
  return {reversed.rbegin(), reversed.rend()};
}

Text format_text(Runtime& runtime, const Text& text, const Text& source, char mark) {
  const SpecParser parser(runtime, source);
  const FormatSpec spec = SpecParser(runtime, source).run(false, mark);
  const bool has_more = spec.sign || spec.drops_negative_zero || spec.is_alternate || spec.grouping;
  if (has_more || spec.align == '=' || (spec.type != '\0' && spec.type != 's')) parser.fail();
  const size_t size = count_code_points(text.bytes);
  if (spec.precision < 0 || static_cast<size_t>(spec.precision) >= size) return padded(runtime, spec, Text(), text);
  const size_t end = code_point_offset(text.bytes, spec.precision).value_or(text.size());
  return padded(runtime, spec, Text(), text.part(0, end));
}

struct NumberParts {
  bool is_negative = false;
  std::string prefix;
  std::string whole;  // what is grouped
  std::string rest;
};

NumberParts integer_parts(Runtime& runtime, int64_t integer, const FormatSpec& spec) {
  NumberParts parts;
  parts.is_negative = integer < 0;
  parts.whole = integer_digits(magnitude_of(integer), spec.type);
  runtime.charge(1);
  if (spec.is_alternate && spec.type != 'd' && spec.type != 'n' && spec.type != '\0') parts.prefix = {'0', spec.type};
  return parts;
}

NumberParts float_parts(Runtime& runtime, double number, const FormatSpec& spec) {
  NumberParts parts;
  parts.is_negative = std::signbit(number) && !std::isnan(number);
  const double magnitude = std::fabs(number);
  std::string digits;
  if (spec.type == '\0' && spec.precision < 0) {
    digits = float_text(magnitude);
  } else {
    const bool is_percent = spec.type == '%';
    const char type = is_percent ? 'f' : spec.type == '\0' || spec.type == 'n' ? 'g' : spec.type;
    int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    // without a type at least one digit follows the point, which counts for the exponent's threshold
    if (spec.type == '\0' && precision == 0) precision = 1;
    digits = float_digits(runtime, is_percent ? magnitude * 100 : magnitude, type, precision, spec.is_alternate);
    if (spec.type == '\0' && std::isfinite(magnitude) && digits.find_first_of(".e") == std::string::npos) {
      // whole digits that fill the precision have an exponent instead
      if (static_cast<int64_t>(digits.size()) >= precision && precision > 0) {
        digits = float_digits(runtime, magnitude, 'e', precision - 1, false);
        const size_t e = digits.find('e');
        size_t end = digits.substr(0, e).find_last_not_of('0') + 1;
        if (digits.find('.') != std::string::npos && end > 0 && digits[end - 1] == '.') --end;
        if (digits.find('.') != std::string::npos) digits = digits.substr(0, end) + digits.substr(e);
      } else {
        digits += ".0";
      }
    }
    if (is_percent) digits += '%';
  }
  if (spec.drops_negative_zero && digits.find_first_of("123456789") == std::string::npos && std::isfinite(number))
    parts.is_negative = false;
  const size_t end = std::min(digits.find_first_not_of("0123456789"), digits.size());
  parts.whole = digits.substr(0, end);
  parts.rest = digits.substr(end);
  return parts;
}

Text format_number(Runtime& runtime, const Value& value, const Text& source, char mark) {
  const SpecParser parser(runtime, source);
  const FormatSpec spec = SpecParser(runtime, source).run(true, mark);
  constexpr std::string_view kIntegerTypes = "bcdoxXn", kFloatTypes = "eEfFgGn%";
  const bool is_integer =
      value.is_integer() && (spec.type == '\0' || kIntegerTypes.find(spec.type) != std::string_view::npos);
  if (!is_integer && spec.type != '\0' && kFloatTypes.find(spec.type) == std::string_view::npos) parser.fail();
  const bool is_power_of_two = spec.type == 'b' || spec.type == 'o' || spec.type == 'x' || spec.type == 'X';
  if (spec.grouping && (spec.type == 'n' || spec.type == 'c' || (is_power_of_two && spec.grouping == ',')))
    parser.fail();
  if (is_integer && (spec.precision >= 0 || spec.drops_negative_zero)) parser.fail();
  if (is_integer && spec.type == 'c') {
    if (spec.sign || spec.is_alternate) parser.fail();
    return padded(runtime, spec, Text(), character_of(runtime, value.integer()));
  }
  const NumberParts parts =
      is_integer ? integer_parts(runtime, value.integer(), spec) : float_parts(runtime, value.number(), spec);
  Text head(parts.is_negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "", mark);
  head.append(parts.prefix, mark);
  std::string body = parts.whole;
  if (spec.grouping) {
    const bool pads_zeros = spec.fill.bytes == "0" && spec.align == '=';
    const size_t others = head.size() + parts.rest.size();
    const auto width = static_cast<size_t>(spec.width);
    if (!parts.whole.empty())
      body = grouped(runtime, parts.whole, spec.grouping, is_power_of_two ? 4 : 3,
                     pads_zeros && width > others ? width - others : 0);
  }
  return padded(runtime, spec, head, Text(body + parts.rest, mark));
}

}  // namespace

Text format_value(Runtime& runtime, const Value& value, const Text& spec, char mark) {
  if (spec.size() == 0) {
    Text text = to_text(runtime, value);
    if (value.is_number()) text.marks.assign(text.size(), mark);
    return text;
  }
  if (value.text()) return format_text(runtime, *value.text(), spec, mark);
  if (value.is_number()) return format_number(runtime, value, spec, mark);
  runtime.fail("a value of type {} takes no format such as '{}'", type_name(value), spec.bytes.substr(0, 80));
}

}  // namespace plumb::jinja
