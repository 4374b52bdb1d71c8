#include <algorithm>
#include <cmath>

#include "lib/jinja/filters.hpp"
#include "lib/jinja/format.hpp"
#include "lib/jinja/html.hpp"
#include "lib/jinja/operators.hpp"
#include "lib/jinja/print.hpp"
#include "lib/jinja/word_wrap.hpp"

namespace plumb::jinja {
namespace {

Value escape_filter(Runtime& runtime, const Value& input, const Arguments&) {
  return Runtime::wrap_text(to_markup(runtime, input));
}

Value forceescape_filter(Runtime& runtime, const Value& input, const Arguments&) {
  return Runtime::wrap_text(escape_html(runtime, to_text(runtime, input)));
}

Value safe_filter(Runtime& runtime, const Value& input, const Arguments&) {
  Text text = to_text(runtime, input);
  text.is_markup = true;
  return runtime.make_text(std::move(text));
}

Value striptags_filter(Runtime& runtime, const Value& input, const Arguments&) {
  return Runtime::wrap_text(strip_tags(runtime, to_text(runtime, input)));
}

Value format_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty())
    runtime.fail("format takes values in order or by name, not both");
  const Text format = to_text(runtime, input);
  if (arguments.named.empty())
    return Runtime::wrap_text(
        format_percent(runtime, format, runtime.make_sequence(arguments.positional, SequenceKind::kTuple)));
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, value] : arguments.named) entries.emplace_back(runtime.make_text(Text(name)), value);
  return Runtime::wrap_text(format_percent(runtime, format, runtime.make_dict(std::move(entries))));
}

// `keeps`: characters that stay as they are, besides letters, digits and _.-~
Text quote_url(Runtime& runtime, const Value& value, char keeps) {
  const Text text = to_text(runtime, value);
  runtime.charge_text(text.size() * 3);
  Text out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text.bytes[i];
    const bool is_plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_' || c == '.' ||
                          c == '-' || c == '~' || c == keeps;
    if (is_plain)
      out.append(text.part(i, i + 1));
    else if (c == ' ' && keeps == '\0')
      out.append("+", text.marks[i]);
    else
      out.append(fmt::format("%{:02X}", static_cast<unsigned char>(c)), text.marks[i]);
  }
  return out;
}

Value urlencode_filter(Runtime& runtime, const Value& input, const Arguments&) {
  const bool is_query = input.dict() || input.sequence() || input.is<Undefined>();
  if (!is_query) return Runtime::wrap_text(quote_url(runtime, input, '/'));
  std::vector<std::pair<Value, Value>> entries;
  if (input.dict()) {
    entries = input.dict()->entries;
  } else {
    for (const Value& item : iterate(runtime, input)) {
      const std::vector<Value> pair = iterate(runtime, item);
      if (pair.size() != 2) runtime.fail("urlencode: expected pairs, found {} values", pair.size());
      entries.emplace_back(pair[0], pair[1]);
    }
  }
  Text out;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) out.append("&");
    runtime.append(out, quote_url(runtime, entries[i].first, '\0'));
    out.append("=");
    runtime.append(out, quote_url(runtime, entries[i].second, '\0'));
  }
  return Runtime::wrap_text(std::move(out));
}

Value xmlattr_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  expect_defined(runtime, input);
  if (!input.dict()) runtime.fail("xmlattr: expected a dict, not {}", type_name(input));
  Text out;
  for (const auto& [key, value] : input.dict()->entries) {
    if (value.is<None>() || value.is<Undefined>()) continue;
    if (!key.text()) runtime.fail("xmlattr: expected names of type str, found {}", type_name(key));
    if (key.text()->bytes.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      runtime.fail("xmlattr: '{}' cannot be the name of an attribute", key.text()->bytes.substr(0, 80));
    if (out.size() > 0) out.append(" ");
    runtime.append(out, to_markup(runtime, key));
    out.append("=\"");
    runtime.append(out, to_markup(runtime, value));
    out.append("\"");
  }
  if (out.size() > 0 && flag_argument(arguments.find(0, "autospace"), true)) {
    Text spaced(" ");
    spaced.append(out);
    out = std::move(spaced);
  }
  return runtime.make_text(std::move(out));
}

Value filesizeformat_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const bool is_binary = flag_argument(arguments.find(0, "binary"), false);
  const std::optional<double> number = to_float(input);
  if (!number) runtime.fail("filesizeformat: expected a number, not {}", type_name(input));
  const double base = is_binary ? 1024 : 1000;
  if (*number == 1) return runtime.make_text(Text("1 Byte"));
  if (*number < base) {
    if (!std::isfinite(*number)) runtime.fail("filesizeformat: {} is no size", float_text(*number));
    return runtime.make_text(Text(fmt::format("{:.0f} Bytes", std::trunc(*number) + 0.0)));
  }
  constexpr std::string_view kLetters = "kMGTPEZY";
  size_t i = 0;
  double unit = base * base;
  for (; i + 1 < kLetters.size() && !(*number < unit); ++i) unit *= base;
  const char letter = is_binary && kLetters[i] == 'k' ? 'K' : kLetters[i];
  return runtime.make_text(Text(fmt::format("{:.1f} {}{}", base * *number / unit, letter, is_binary ? "iB" : "B")));
}

Value wordwrap_filter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (!input.text()) runtime.fail("wordwrap: expected a string, not {}", type_name(input));
  WrapStyle style;
  style.width = integer_argument(runtime, "width", arguments.find(0, "width"), style.width);
  style.breaks_long_words = flag_argument(arguments.find(1, "break_long_words"), true);
  const Value* separator = arguments.find(2, "wrapstring");
  if (separator && !separator->is<None>()) {
    if (!separator->text()) runtime.fail("wordwrap: 'wrapstring' must be a str, not {}", type_name(*separator));
    style.separator = *separator->text();
  }
  style.breaks_on_hyphens = flag_argument(arguments.find(3, "break_on_hyphens"), true);
  return Runtime::wrap_text(wrap_words(runtime, *input.text(), style));
}

// The value with the keys of its dicts in order.
Value sorted_dicts(Runtime& runtime, const Value& value) {
  if (const Sequence* sequence = value.sequence(); sequence && is_indexable(value)) {
    std::vector<Value> items;
    for (const Value& item : sequence->items) items.push_back(sorted_dicts(runtime, item));
    return runtime.make_sequence(std::move(items), sequence->kind);
  }
  if (!value.dict()) return value;
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [key, item] : value.dict()->entries) entries.emplace_back(key, sorted_dicts(runtime, item));
  std::stable_sort(entries.begin(), entries.end(),
                   [&](const auto& a, const auto& b) { return is_less(runtime, a.first, b.first); });
  return runtime.make_dict(std::move(entries));
}

Value pprint_filter(Runtime& runtime, const Value& input, const Arguments&) {
  constexpr size_t kWidth = 80;
  Text text = to_repr(runtime, sorted_dicts(runtime, input));
  if (count_code_points(text.bytes) > kWidth)
    runtime.fail("pprint: a value of more than {} columns is laid out, which is not supported; use tojson", kWidth);
  return runtime.make_text(std::move(text));
}

const Filter kFilters[] = {
    {"e", {{}}, escape_filter},
    {"escape", {{}}, escape_filter},
    {"filesizeformat", {{"binary"}}, filesizeformat_filter},
    {"forceescape", {{}}, forceescape_filter},
    {"format", {{"*"}}, format_filter},
    {"pprint", {{}}, pprint_filter},
    {"safe", {{}}, safe_filter},
    {"striptags", {{}}, striptags_filter},
    {"urlencode", {{}}, urlencode_filter},
    {"wordwrap", {{"width", "break_long_words", "wrapstring", "break_on_hyphens"}}, wordwrap_filter},
    {"xmlattr", {{"autospace"}}, xmlattr_filter},
};

}  // namespace

std::span<const Filter> layout_filters() { return kFilters; }

}  // namespace plumb::jinja
