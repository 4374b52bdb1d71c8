#include <algorithm>
#include <charconv>

#include "lib/jinja/format.hpp"
#include "lib/jinja/html.hpp"
#include "lib/jinja/number_format.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {
namespace {

struct Field {
  Text name;
  std::string conversion;  // one code point, or ""
  Text spec;
  char mark = kTemplateMark;
};

class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments, bool escapes)
      : runtime_(runtime), arguments_(arguments), escapes_(escapes) {}

  // `depth`: how many formats within formats may follow
  Text run(const Text& format, int depth) {
    if (depth < 0) runtime_.fail("format: fields are nested too deeply");
    Text out;
    for (size_t at = 0; at < format.size();) {
      const size_t brace = std::min(format.bytes.find_first_of("{}", at), format.size());
      runtime_.append(out, format.part(at, brace));
      if (brace == format.size()) break;
      const char c = format.bytes[brace];
      at = brace + 1;
      if (at < format.size() && format.bytes[at] == c) {
        out.append(format.part(at, at + 1));
        ++at;
        continue;
      }
      if (c == '}' || at == format.size()) runtime_.fail("format: a single '{}'; write it twice", c);
      const Field field = read_field(format, at);
      runtime_.charge(1);
      runtime_.append(out, format_field(field, depth));
    }
    return out;
  }

 private:
  // Reads from after the opening brace to after the closing one.
  Field read_field(const Text& format, size_t& at) const {
    Field field;
    const std::string& bytes = format.bytes;
    field.mark = format.marks[at - 1];
    const size_t begin = at;
    for (; at < bytes.size() && bytes[at] != '}' && bytes[at] != ':' && bytes[at] != '!'; ++at) {
      if (bytes[at] == '{') runtime_.fail("format: '{{' in the name of a field");
      if (bytes[at] == '[') at = std::min(bytes.find(']', at), bytes.size() - 1);
    }
    field.name = format.part(begin, std::min(at, bytes.size()));
    if (at < bytes.size() && bytes[at] == '!') {
      if (++at >= bytes.size()) runtime_.fail("format: the string ends in a field");
      const size_t size = code_point_size(bytes, at);
      field.conversion = bytes.substr(at, size);
      at += size;
      if (at < bytes.size() && bytes[at] != '}' && bytes[at] != ':')
        runtime_.fail("format: expected ':' or '}}' after '!{}'", field.conversion);
    }
    if (at >= bytes.size()) runtime_.fail("format: a field has no '}}'");
    if (bytes[at++] == '}') return field;
    const size_t spec = at;
    for (int open = 1; at < bytes.size(); ++at) {
      open += bytes[at] == '{' ? 1 : bytes[at] == '}' ? -1 : 0;
      if (open > 0) continue;
      field.spec = format.part(spec, at++);
      return field;
    }
    runtime_.fail("format: a field has no '}}'");
  }

  Text format_field(const Field& field, int depth) {
    Value value = look_up(field.name);
    if (field.conversion == "s")
      value = runtime_.make_text(to_text(runtime_, value));
    else if (field.conversion == "r")
      value = runtime_.make_text(to_repr(runtime_, value));
    else if (field.conversion == "a")
      value = runtime_.make_text(to_ascii_repr(runtime_, value));
    else if (!field.conversion.empty())
      runtime_.fail("format: conversion '!{}'; expected !s, !r or !a", field.conversion);
    const Text spec = run(field.spec, depth - 1);
    if (escapes_ && value.text() && value.text()->is_markup) {
      if (spec.size() > 0) runtime_.fail("format: escaped text takes no format such as '{}'", spec.bytes.substr(0, 80));
      return *value.text();
    }
    Text text = format_value(runtime_, value, spec, field.mark);
    return escapes_ ? escape_html(runtime_, text) : text;
  }

  static bool is_all_digits(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  }

  int64_t index_of(std::string_view digits) const {
    int64_t index = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), index).ec != std::errc())
      runtime_.fail("format: number {} is too large", digits.substr(0, 40));
    return index;
  }

  Value first_value(std::string_view name, bool is_whole_field) {
    if (name.empty() && is_whole_field) {
      if (is_numbered_) runtime_.fail("format: fields with and without a number");
      return positional(next_++);
    }
    if (is_all_digits(name)) {
      if (is_whole_field && next_ > 0) runtime_.fail("format: fields with and without a number");
      if (is_whole_field) is_numbered_ = true;
      return positional(index_of(name));
    }
    for (const auto& [known, value] : arguments_.named)
      if (known == name) return value;
    runtime_.fail("format: there is no argument '{}'", name.substr(0, 80));
  }

  Value positional(int64_t index) const {
    if (index >= static_cast<int64_t>(arguments_.positional.size()))
      runtime_.fail("format: there is no argument {}; it got {}", index, arguments_.positional.size());
    return arguments_.positional[static_cast<size_t>(index)];
  }

  // "name.attribute[item]"
  Value look_up(const Text& name) {
    const std::string& bytes = name.bytes;
    size_t at = std::min(bytes.find_first_of(".["), bytes.size());
    Value value = first_value(std::string_view(bytes).substr(0, at), at == bytes.size());
    while (at < bytes.size()) {
      runtime_.charge(1);
      const bool is_attribute = bytes[at] == '.';
      if (!is_attribute && bytes[at] != '[') runtime_.fail("format: expected '.' or '[' after ']'");
      const size_t begin = at + 1;
      size_t end = is_attribute ? bytes.find_first_of(".[", begin) : bytes.find(']', begin);
      if (end == std::string::npos && !is_attribute) runtime_.fail("format: a '[' has no ']'");
      end = std::min(end, bytes.size());
      if (begin == end) runtime_.fail("format: a field names an empty attribute");
      const std::string key = bytes.substr(begin, end - begin);
      if (is_attribute)
        value = get_attribute(runtime_, value, key);
      else
        value = get_item(runtime_, value, is_all_digits(key) ? Value(index_of(key)) : runtime_.make_text(Text(key)));
      at = is_attribute ? end : end + 1;
    }
    return value;
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  bool escapes_;
  int64_t next_ = 0;
  bool is_numbered_ = false;
};

}  // namespace

Text format_braces(Runtime& runtime, const Text& format, const Arguments& arguments) {
  constexpr int kMaxDepth = 2;
  Text out = BraceFormatter(runtime, arguments, format.is_markup).run(format, kMaxDepth);
  out.is_markup = format.is_markup;
  return out;
}

}  // namespace plumb::jinja
