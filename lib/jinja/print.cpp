#include "lib/jinja/print.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/jinja/characters.hpp"

namespace plumb::jinja {

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // the shortest digits that round-trip, formatted by Python's rule: no "e" for exponents from -4 to 15
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, end - buffer);
  const size_t e = shortest.find('e');
  std::string digits;
  for (const char c : shortest.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  const std::string sign = shortest[0] == '-' ? "-" : "";
  int exponent = std::stoi(std::string(shortest.substr(e + 1)));
  if (exponent < -4 || exponent > 15) {
    std::string mantissa = digits.substr(0, 1);
    if (digits.size() > 1) mantissa += "." + digits.substr(1);
    return fmt::format("{}{}e{}{:02}", sign, mantissa, exponent < 0 ? "-" : "+", std::abs(exponent));
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent) - 1, '0') + digits;
  const auto num_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= num_whole) return sign + digits + std::string(num_whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, num_whole) + "." + digits.substr(num_whole);
}

static std::string escaped_character(int32_t c) {
  return c < 0x100     ? fmt::format("\\x{:02x}", c)
         : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                       : fmt::format("\\U{:08x}", c);
}

static void append_text_repr(Text& out, const Text& text) {
  if (text.is_markup) out.append("Markup(");
  const bool has_single = text.bytes.find('\'') != std::string::npos;
  const char quote = has_single && text.bytes.find('"') == std::string::npos ? '"' : '\'';
  out.append(std::string_view(&quote, 1));
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    const int32_t c = code_point_at(text.bytes, at);
    const char mark = text.marks[at];
    if (c == quote || c == '\\')
      out.append(std::string{'\\', static_cast<char>(c)}, mark);
    else if (c == '\n' || c == '\r' || c == '\t')
      out.append(c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t", mark);
    else if (is_printable(c) || (c >= 0x80 && next == at + 1))
      out.append(text.part(at, next));
    else
      out.append(escaped_character(c), mark);
    at = next;
  }
  out.append(std::string_view(&quote, 1));
  if (text.is_markup) out.append(")");
}

static void append_repr(Runtime& runtime, Text& out, const Value& value) {
  runtime.charge(1);
  if (const Text* text = value.text()) {
    runtime.charge_text(text->size());
    append_text_repr(out, *text);
  } else if (const Sequence* sequence = value.sequence()) {
    const bool is_tuple = sequence->kind == SequenceKind::kTuple;
    if (!is_tuple && sequence->kind != SequenceKind::kList)
      runtime.fail("cannot print a {}; turn it into a list first (filter list)", type_name(value));
    out.append(is_tuple ? "(" : "[");
    for (size_t i = 0; i < sequence->items.size(); ++i) {
      if (i > 0) out.append(", ");
      append_repr(runtime, out, sequence->items[i]);
    }
    out.append(!is_tuple ? "]" : sequence->items.size() == 1 ? ",)" : ")");
  } else if (const Dict* dict = value.dict()) {
    out.append("{");
    for (size_t i = 0; i < dict->entries.size(); ++i) {
      if (i > 0) out.append(", ");
      append_repr(runtime, out, dict->entries[i].first);
      out.append(": ");
      append_repr(runtime, out, dict->entries[i].second);
    }
    out.append("}");
  } else if (value.is<Undefined>()) {
    out.append("Undefined");
  } else if (value.is<None>()) {
    out.append("None");
  } else if (value.is<bool>()) {
    out.append(std::get<bool>(value.data) ? "True" : "False");
  } else if (value.is<int64_t>()) {
    out.append(std::to_string(value.integer()));
  } else if (value.is<double>()) {
    out.append(float_text(value.number()));
  } else {
    runtime.fail("cannot print a {}; expected a string, number, list or dict", type_name(value));
  }
}

Text to_repr(Runtime& runtime, const Value& value) {
  Text out;
  append_repr(runtime, out, value);
  return out;
}

Text to_ascii_repr(Runtime& runtime, const Value& value) {
  const Text text = to_repr(runtime, value);
  Text out;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    if (next == at + 1)
      out.append(text.part(at, next));
    else
      out.append(escaped_character(code_point_at(text.bytes, at)), text.marks[at]);
    at = next;
  }
  runtime.charge_text(out.size());
  return out;
}

Text to_text(Runtime& runtime, const Value& value) {
  if (value.is<Undefined>()) return Text();
  if (const Text* text = value.text()) return *text;
  return to_repr(runtime, value);
}

static void append_json_text(Text& out, const Text& text, bool is_ascii) {
  out.append("\"");
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    int32_t c = code_point_at(text.bytes, at);
    const char mark = text.marks[at];
    const char* short_escape = c == '"'    ? "\\\""
                               : c == '\\' ? "\\\\"
                               : c == '\n' ? "\\n"
                               : c == '\r' ? "\\r"
                               : c == '\t' ? "\\t"
                               : c == '\b' ? "\\b"
                               : c == '\f' ? "\\f"
                                           : nullptr;
    if (short_escape) {
      out.append(short_escape, mark);
    } else if (c >= 0x20 && (!is_ascii || c < 0x80)) {
      out.append(text.part(at, next));
    } else if (c < 0x10000) {
      out.append(fmt::format("\\u{:04x}", c), mark);
    } else {
      c -= 0x10000;
      out.append(fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (c >> 10), 0xDC00 + (c & 0x3FF)), mark);
    }
    at = next;
  }
  out.append("\"");
}

static void append_json(Runtime& runtime, Text& out, const Value& value, const JsonStyle& style, size_t level);

static Text json_key(Runtime& runtime, const Value& key) {
  if (key.text()) return *key.text();
  if (!key.is_number() && !key.is<None>())
    runtime.fail("tojson: keys must be str, int, float, bool or None, not {}", type_name(key));
  Text out;
  append_json(runtime, out, key, JsonStyle(), 0);
  return out;
}

static void append_json_items(Runtime& runtime, Text& out, const JsonStyle& style, size_t level, size_t num_items,
                              const auto& append_item) {
  const auto new_line = [&](size_t depth) {
    if (!style.indent) return;
    out.append("\n");
    for (size_t i = 0; i < depth; ++i) runtime.append(out, *style.indent);
  };
  for (size_t i = 0; i < num_items; ++i) {
    if (i > 0) runtime.append(out, style.item_separator);
    new_line(level + 1);
    append_item(i);
  }
  if (num_items > 0) new_line(level);
}

static void append_json(Runtime& runtime, Text& out, const Value& value, const JsonStyle& style, size_t level) {
  runtime.charge(1);
  if (const Text* text = value.text()) {
    runtime.charge_text(text->size());
    append_json_text(out, *text, style.is_ascii);
  } else if (value.is<None>()) {
    out.append("null");
  } else if (value.is<bool>()) {
    out.append(std::get<bool>(value.data) ? "true" : "false");
  } else if (value.is<double>()) {
    const double number = value.number();
    out.append(std::isnan(number)   ? "NaN"
               : std::isinf(number) ? (number < 0 ? "-Infinity" : "Infinity")
                                    : float_text(number));
  } else if (value.is<int64_t>()) {
    out.append(std::to_string(value.integer()));
  } else if (const Sequence* sequence = value.sequence();
             sequence && (sequence->kind == SequenceKind::kList || sequence->kind == SequenceKind::kTuple)) {
    out.append("[");
    append_json_items(runtime, out, style, level, sequence->items.size(),
                      [&](size_t i) { append_json(runtime, out, sequence->items[i], style, level + 1); });
    out.append("]");
  } else if (const Dict* dict = value.dict()) {
    std::vector<std::pair<Value, Value>> entries = dict->entries;
    if (style.sorts_keys)
      std::stable_sort(entries.begin(), entries.end(),
                       [&](const auto& a, const auto& b) { return is_less(runtime, a.first, b.first); });
    out.append("{");
    append_json_items(runtime, out, style, level, entries.size(), [&](size_t i) {
      const Text key = json_key(runtime, entries[i].first);
      runtime.charge_text(key.size());
      append_json_text(out, key, style.is_ascii);
      runtime.append(out, style.key_separator);
      append_json(runtime, out, entries[i].second, style, level + 1);
    });
    out.append("}");
  } else {
    runtime.fail("tojson: a {} has no JSON form", type_name(value));
  }
}

Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  Text out;
  append_json(runtime, out, value, style, 0);
  return out;
}

}  // namespace plumb::jinja
