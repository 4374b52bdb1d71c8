#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "lib/jinja/filters.hpp"
#include "lib/jinja/methods.hpp"
#include "lib/jinja/operators.hpp"
#include "lib/jinja/print.hpp"

namespace plumb::jinja {
namespace {

constexpr int64_t kMaxWidth = 4096;

int64_t width_argument(Runtime& runtime, std::string_view name, const Value* argument, int64_t otherwise) {
  const int64_t width = integer_argument(runtime, name, argument, otherwise);
  if (width > kMaxWidth) runtime.fail("{} of {}; expected at most {}", name, width, kMaxWidth);
  return std::max<int64_t>(width, 0);
}

// `text` as the result of a filter of Jinja that keeps the type of its input.
Value as_input(Runtime& runtime, const Value& input, Text text) {
  text.is_markup = input.text() && input.text()->is_markup;
  return runtime.make_text(std::move(text));
}

Value mapped(Runtime& runtime, const Value& input, Text (*map)(const Text&)) {
  return as_input(runtime, input, map(to_text(runtime, input)));
}

Value trim_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value* characters = arguments.find(0, "chars");
  if (characters && characters->is<None>()) characters = nullptr;
  if (characters && !characters->text()) runtime.fail("trim: 'chars' must be a str, not {}", type_name(*characters));
  const Value text = input.text() ? input : Runtime::wrap_text(to_text(runtime, input));
  if (characters) charge_search(runtime, *text.text(), *characters->text());
  const auto [begin, end] = stripped_range(*text.text(), characters ? characters->text() : nullptr, true, true);
  if (end - begin == text.text()->size()) return text;
  return as_input(runtime, input, text.text()->part(begin, end));
}

Value replace_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Text text = to_text(runtime, input);
  const Text from = text_argument(runtime, arguments.find(0, "old"), "");
  const Text to = text_argument(runtime, arguments.find(1, "new"), "");
  const Value* count = arguments.find(2, "count");
  const int64_t limit = integer_argument(runtime, "count", count && count->is<None>() ? nullptr : count, -1);
  charge_search(runtime, text, from);
  runtime.charge_text(replaced_size(text, from, to, limit));
  return Runtime::wrap_text(replace(text, from, to, limit));
}

Value indent_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Value* width = arguments.find(0, "width");
  Text indention;
  if (width && width->text())
    indention = *width->text();
  else
    indention = Text(std::string(width_argument(runtime, "width", width, 4), ' '));
  const bool indents_blank = flag_argument(arguments.find(2, "blank"), false);
  if (!input.text()) expect_defined(runtime, input);
  if (!input.text()) runtime.fail("indent: expected a string, not {}", type_name(input));
  Text text = *input.text();
  text.append("\n");  // so that a final newline yields a last, empty line
  Text out;
  if (flag_argument(arguments.find(1, "first"), false)) runtime.append(out, indention);
  bool is_first = true;
  runtime.charge_values(max_lines(text));
  for (const Text& line : split_lines(text, false)) {
    if (!is_first) out.append("\n");
    if (!is_first && (indents_blank || line.size() > 0)) runtime.append(out, indention);
    runtime.append(out, line);
    is_first = false;
  }
  return Runtime::wrap_text(std::move(out));
}

Value center_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const Text text = to_text(runtime, input);
  const auto width = static_cast<size_t>(width_argument(runtime, "width", arguments.find(0, "width"), 80));
  const size_t length = count_code_points(text.bytes);
  if (length >= width) return runtime.make_text(text);
  const size_t padding = width - length;
  const size_t left = padding / 2 + (padding & width & 1);  // Python puts the odd space here
  Text out(std::string(left, ' '));
  out.append(text);
  out.append(std::string(padding - left, ' '));
  return as_input(runtime, input, std::move(out));
}

Value truncate_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (input.is<Undefined>()) return input;
  if (!input.text()) runtime.fail("truncate: expected a string, not {}", type_name(input));
  const Text& text = *input.text();
  const int64_t length = integer_argument(runtime, "length", arguments.find(0, "length"), 255);
  const Text end = text_argument(runtime, arguments.find(2, "end"), "...");
  const int64_t leeway = integer_argument(runtime, "leeway", arguments.find(3, "leeway"), 5);
  const std::vector<size_t> offsets = code_point_offsets(text.bytes);
  const auto end_length = static_cast<int64_t>(count_code_points(end.bytes));
  if (length < end_length || leeway < 0) runtime.fail("truncate: expected length >= {} and leeway >= 0", end_length);
  const auto text_length = static_cast<int64_t>(offsets.size()) - 1;
  if (text_length <= length || text_length - length <= leeway) return input;
  Text out = text.part(0, offsets[length - end_length]);
  if (!flag_argument(arguments.find(1, "killwords"), false)) {
    const size_t space = out.bytes.rfind(' ');
    if (space != std::string::npos) out = out.part(0, space);
  }
  runtime.append(out, end);
  return runtime.make_text(std::move(out));
}

Value wordcount_filter(Runtime& runtime, const Value& input, const Arguments&) {
  const Text text = to_text(runtime, input);
  int64_t count = 0;
  bool is_in_word = false;
  for (const char c : text.bytes) {
    // letters outside ASCII count as parts of words
    const bool is_word =
        std::isalnum(static_cast<unsigned char>(c)) || c == '_' || static_cast<unsigned char>(c) >= 0x80;
    count += is_word && !is_in_word;
    is_in_word = is_word;
  }
  return Value(count);
}

std::optional<double> parse_float(const Text& text) {
  const Text stripped = strip(text, nullptr, true, true);
  std::string_view digits = stripped.bytes;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (end != digits.data() + digits.size() || digits.empty() || digits.back() == ')' || digits.front() == '+')
    return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::strtod(std::string(digits).c_str(), nullptr);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

std::optional<int64_t> parse_integer(Runtime& runtime, const Text& text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) runtime.fail("int: base {}; expected 0 or 2 to 36", base);
  const Text stripped = strip(text, nullptr, true, true);
  std::string_view rest = stripped.bytes;
  const bool is_negative = rest.starts_with('-');
  if (is_negative || rest.starts_with('+')) rest.remove_prefix(1);
  const char letter = rest.size() > 2 && rest[0] == '0' ? static_cast<char>(rest[1] | 0x20) : ' ';
  const int64_t named_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
  if (named_base != 0 && (base == 0 || base == named_base)) {
    base = named_base;
    rest.remove_prefix(2);
    if (rest.starts_with('_')) rest.remove_prefix(1);
  }
  std::string digits = is_negative ? "-" : "";
  for (size_t i = 0; i < rest.size(); ++i) {
    if (rest[i] == '-' || (rest[i] == '_' && (i == 0 || i + 1 == rest.size() || rest[i + 1] == '_')))
      return std::nullopt;
    if (rest[i] != '_') digits += rest[i];
  }
  int64_t number = 0;
  const char* last = digits.data() + digits.size();
  const auto [end, error] = std::from_chars(digits.data(), last, number, base == 0 ? 10 : static_cast<int>(base));
  if (end != last || digits.empty()) return std::nullopt;
  if (error == std::errc::result_out_of_range) runtime.fail("int: the number does not fit 64 bits");
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

Value int_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_defined(runtime, input);
  const Value* given = arguments.find(0, "default");
  const Value otherwise = given ? *given : Value(int64_t{0});
  if (input.is_integer()) return Value(input.integer());
  std::optional<double> number;
  if (const Text* text = input.text()) {
    if (const auto whole =
            parse_integer(runtime, *text, integer_argument(runtime, "base", arguments.find(1, "base"), 10)))
      return Value(*whole);
    number = parse_float(*text);
    if (number && std::isinf(*number)) return otherwise;
  } else if (input.is<double>()) {
    number = input.number();
  }
  if (!number || std::isnan(*number)) return otherwise;
  if (*number < -0x1p63 || *number >= 0x1p63) runtime.fail("int: {} does not fit 64 bits", float_text(*number));
  return Value(static_cast<int64_t>(*number));
}

Value float_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_defined(runtime, input);
  if (const auto number = to_float(input)) return Value(*number);
  const Value* otherwise = arguments.find(0, "default");
  return otherwise ? *otherwise : Value(0.0);
}

Value abs_filter(Runtime& runtime, const Value& input, const Arguments&) {
  expect_defined(runtime, input);
  if (!input.is_number()) runtime.fail("abs: expected a number, not {}", type_name(input));
  return input.number() < 0 ? negative(runtime, input) : input.is<bool>() ? Value(input.integer()) : input;
}

Value round_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_defined(runtime, input);
  if (!input.is_number()) runtime.fail("round: expected a number, not {}", type_name(input));
  const int64_t precision = integer_argument(runtime, "precision", arguments.find(0, "precision"), 0);
  const std::string method = text_argument(runtime, arguments.find(1, "method"), "common").bytes;
  if (precision < 0 || precision > 300) runtime.fail("round: precision {}; expected 0 to 300", precision);
  if (method == "common") {
    if (input.is_integer()) return Value(input.integer());
    if (!std::isfinite(input.number())) return input;
    // printing rounds the exact binary value, ties to even, as Python's round does
    return Value(std::strtod(fmt::format("{:.{}f}", input.number(), precision).c_str(), nullptr));
  }
  if (method != "ceil" && method != "floor") runtime.fail("round: method '{}'; expected common, ceil or floor", method);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.number() * scale;
  return Value((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value tojson_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  JsonStyle style;
  style.is_ascii = flag_argument(arguments.find(0, "ensure_ascii"), false);
  const Value* indent = arguments.find(1, "indent");
  if (indent && !indent->is<None>()) {
    style.indent =
        indent->text() ? *indent->text() : Text(std::string(width_argument(runtime, "indent", indent, 0), ' '));
    style.item_separator = Text(",");
  }
  const Value* separators = arguments.find(2, "separators");
  if (separators && !separators->is<None>()) {
    const Sequence* pair = separators->sequence();
    if (!pair || pair->items.size() != 2 || !pair->items[0].text() || !pair->items[1].text())
      runtime.fail("tojson: 'separators' must be two strings");
    style.item_separator = *pair->items[0].text();
    style.key_separator = *pair->items[1].text();
  }
  style.sorts_keys = flag_argument(arguments.find(3, "sort_keys"), false);
  return runtime.make_text(to_json(runtime, input, style));
}

const Filter kFilters[] = {
    {"abs", {{}}, abs_filter},
    {"capitalize", {{}}, [](Runtime& r, const Value& v, const Arguments&) { return mapped(r, v, capitalize); }},
    {"center", {{"width"}}, center_filter},
    {"float", {{"default"}}, float_filter},
    {"indent", {{"width", "first", "blank"}}, indent_filter},
    {"int", {{"default", "base"}}, int_filter},
    {"lower", {{}}, [](Runtime& r, const Value& v, const Arguments&) { return mapped(r, v, lower); }},
    {"replace", {{"old", "new", "count"}, 2}, replace_filter},
    {"round", {{"precision", "method"}}, round_filter},
    {"string", {{}}, [](Runtime& r, const Value& v, const Arguments&) { return r.make_text(to_text(r, v)); }},
    {"title",
     {{}},
     [](Runtime& r, const Value& v, const Arguments&) { return r.make_text(title_words(to_text(r, v))); }},
    {"tojson", {{"ensure_ascii", "indent", "separators", "sort_keys"}}, tojson_filter},
    {"trim", {{"chars"}}, trim_filter},
    {"truncate", {{"length", "killwords", "end", "leeway"}}, truncate_filter},
    {"upper", {{}}, [](Runtime& r, const Value& v, const Arguments&) { return mapped(r, v, upper); }},
    {"wordcount", {{}}, wordcount_filter},
};

}  // namespace

std::optional<double> to_float(const Value& value) {
  if (value.is_number()) return value.number();
  return value.text() ? parse_float(*value.text()) : std::nullopt;
}

std::span<const Filter> text_filters() { return kFilters; }

}  // namespace plumb::jinja
