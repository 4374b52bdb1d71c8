#include <cmath>
#include <optional>

#include "lib/jinja/format.hpp"
#include "lib/jinja/html.hpp"
#include "lib/jinja/number_format.hpp"
#include "lib/jinja/operators.hpp"
#include "lib/jinja/print.hpp"

namespace plumb::jinja {
namespace {

struct Conversion {
  bool is_left = false, has_plus = false, has_space = false, is_alternate = false, has_zeros = false;
  int64_t width = 0;
  int64_t precision = -1;
  char type = '\0';
  char mark = kTemplateMark;
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Text& format, const Value& values)
      : runtime_(runtime),
        format_(format),
        is_tuple_(values.sequence() && values.sequence()->kind == SequenceKind::kTuple),
        values_(values),
        value_(values) {}

  Text run() {
    while (true) {
      const size_t found = std::min(format_.bytes.find('%', at_), format_.size());
      runtime_.append(out_, format_.part(at_, found));
      at_ = found + 1;
      if (found == format_.size()) break;
      convert(format_.marks[found]);
    }
    const Sequence* sequence = values_.sequence();
    const bool has_items =
        values_.dict() || values_.is<Undefined>() ||
        (sequence && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kRange));
    if (!has_items && num_left() > 0) runtime_.fail("not all values were used by the format");
    out_.is_markup = format_.is_markup;
    return std::move(out_);
  }

 private:
  size_t num_left() const { return is_tuple_ ? values_.sequence()->items.size() - num_used_ : num_used_ == 0 ? 1 : 0; }

  Value next_value() {
    if (num_left() == 0) runtime_.fail("not enough values for the format");
    ++num_used_;
    return is_tuple_ ? values_.sequence()->items[num_used_ - 1] : value_;
  }

  char peek() {
    if (at_ >= format_.size()) runtime_.fail("the format ends after '%'");
    return format_.bytes[at_];
  }

  // A number in the format, or of the next value if it is '*'.
  int64_t number() {
    if (peek() == '*') {
      ++at_;
      const Value value = next_value();
      if (!value.is_integer() || std::abs(value.integer()) > INT32_MAX) runtime_.fail("* in a format wants an int");
      return value.integer();
    }
    int64_t number = 0;
    for (; peek() >= '0' && peek() <= '9'; ++at_) {
      number = number * 10 + (peek() - '0');
      if (number > INT32_MAX) runtime_.fail("a width or precision in a format is too large");
    }
    return number;
  }

  void read_key() {
    if (!values_.dict()) runtime_.fail("a format with a key in parentheses needs a dict, not {}", type_name(values_));
    const size_t begin = ++at_;
    for (int open = 1; open > 0; ++at_) open += peek() == '(' ? 1 : peek() == ')' ? -1 : 0;
    const Text key = format_.part(begin, at_ - 1);
    const Value* found = find_key(runtime_, *values_.dict(), runtime_.make_text(key));
    if (!found) runtime_.fail("the dict has no '{}', which the format names", key.bytes.substr(0, 80));
    value_ = *found;
    num_used_ = 0;
  }

  Conversion read_conversion(char mark) {
    Conversion conversion;
    conversion.mark = mark;
    if (peek() == '(') read_key();
    for (;; ++at_) {
      const char c = peek();
      if (c == '-')
        conversion.is_left = true;
      else if (c == '+')
        conversion.has_plus = true;
      else if (c == ' ')
        conversion.has_space = true;
      else if (c == '#')
        conversion.is_alternate = true;
      else if (c == '0')
        conversion.has_zeros = true;
      else
        break;
    }
    conversion.width = number();
    if (conversion.width < 0) conversion.is_left = true, conversion.width = -conversion.width;
    if (peek() == '.') {
      ++at_;
      conversion.precision = std::max<int64_t>(number(), 0);
    }
    if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
    conversion.type = peek();
    ++at_;
    return conversion;
  }

  void convert(char mark) {
    runtime_.charge(1);
    if (peek() == '%') {
      ++at_;
      return out_.append("%", mark);
    }
    const Conversion conversion = read_conversion(mark);
    switch (conversion.type) {
      case 's':
      case 'r':
      case 'a':
        return append_text(conversion);
      case 'c':
        return append_character(conversion);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return append_integer(conversion);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return append_float(conversion);
      default:
        runtime_.fail("'%' in a format is followed by '{}'; expected one of %sracdiuxXoeEfFgG",
                      format_.bytes.substr(at_ - 1, code_point_size(format_.bytes, at_ - 1)));
    }
  }

  void append_text(const Conversion& conversion) {
    const Value value = next_value();
    Text text = conversion.type == 's'   ? to_text(runtime_, value)
                : conversion.type == 'r' ? to_repr(runtime_, value)
                                         : to_ascii_repr(runtime_, value);
    if (value.is_number()) text.marks.assign(text.size(), conversion.mark);
    if (format_.is_markup && !(conversion.type == 's' && text.is_markup)) text = escape_html(runtime_, text);
    if (conversion.precision >= 0)
      text = text.part(0, code_point_offset(text.bytes, conversion.precision).value_or(text.size()));
    append_padded(conversion, "", text, ' ');
  }

  void append_character(const Conversion& conversion) {
    const Value value = next_value();
    if (value.is_integer()) return append_padded(conversion, "", character_of(runtime_, value.integer()), ' ');
    if (!value.text() || count_code_points(value.text()->bytes) != 1)
      runtime_.fail("%c needs an int or one character, not {}", type_name(value));
    append_padded(conversion, "", *value.text(), ' ');
  }

  void append_integer(const Conversion& conversion) {
    const Value value = next_value();
    expect_defined(runtime_, value);
    const bool is_decimal = conversion.type == 'd' || conversion.type == 'i' || conversion.type == 'u';
    if (!value.is_integer() && !(value.is<double>() && is_decimal))
      runtime_.fail("%{} needs an int, not {}", conversion.type, type_name(value));
    int64_t integer = 0;
    if (value.is_integer()) {
      integer = value.integer();
    } else {
      if (!(value.number() >= -0x1p63 && value.number() < 0x1p63))
        runtime_.fail("%d: {} does not fit 64 bits", float_text(value.number()));
      integer = static_cast<int64_t>(value.number());
    }
    std::string digits = integer_digits(magnitude_of(integer), conversion.type);
    const auto min_size = static_cast<size_t>(std::max<int64_t>(conversion.precision, 0));
    runtime_.charge_text(min_size);
    if (digits.size() < min_size) digits.insert(0, min_size - digits.size(), '0');
    std::string head = sign(conversion, integer < 0);
    if (conversion.is_alternate && !is_decimal) head += {'0', conversion.type};
    append_padded(conversion, head, Text(digits, conversion.mark), conversion.has_zeros ? '0' : ' ');
  }

  void append_float(const Conversion& conversion) {
    const Value value = next_value();
    expect_defined(runtime_, value);
    if (!value.is_number()) runtime_.fail("%{} needs a number, not {}", conversion.type, type_name(value));
    const double number = value.number();
    const std::string digits =
        float_digits(runtime_, std::fabs(number), conversion.type, conversion.precision < 0 ? 6 : conversion.precision,
                     conversion.is_alternate);
    append_padded(conversion, sign(conversion, std::signbit(number) && !std::isnan(number)),
                  Text(digits, conversion.mark), conversion.has_zeros ? '0' : ' ');
  }

  static std::string sign(const Conversion& conversion, bool is_negative) {
    return is_negative ? "-" : conversion.has_plus ? "+" : conversion.has_space ? " " : "";
  }

  void append_padded(const Conversion& conversion, const std::string& head, const Text& body, char fill) {
    const size_t size = head.size() + count_code_points(body.bytes);
    const auto width = static_cast<size_t>(conversion.width);
    const size_t padding = width > size ? width - size : 0;
    runtime_.charge_text(padding);
    const Text before(std::string(conversion.is_left ? 0 : padding, fill), conversion.mark);
    if (fill == '0') out_.append(head, conversion.mark);
    runtime_.append(out_, before);
    if (fill != '0') out_.append(head, conversion.mark);
    runtime_.append(out_, body);
    runtime_.append(out_, Text(std::string(conversion.is_left ? padding : 0, ' '), conversion.mark));
  }

  Runtime& runtime_;
  const Text& format_;
  bool is_tuple_;
  const Value& values_;
  Value value_;  // the single one
  size_t num_used_ = 0;
  size_t at_ = 0;
  Text out_;
};

}  // namespace

Text format_percent(Runtime& runtime, const Text& format, const Value& values) {
  return PercentFormatter(runtime, format, values).run();
}

}  // namespace plumb::jinja
