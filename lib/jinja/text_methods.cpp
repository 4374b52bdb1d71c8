#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "lib/jinja/characters.hpp"
#include "lib/jinja/format.hpp"
#include "lib/jinja/html.hpp"
#include "lib/jinja/methods.hpp"

namespace plumb::jinja {
namespace {

Value list_of(Runtime& runtime, std::vector<Text> texts) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (Text& text : texts) items.push_back(runtime.make_text(std::move(text)));
  return runtime.make_sequence(std::move(items));
}

Value stripped(const MethodCall& call, bool left, bool right) {
  const Text* characters = call.text_at(0, "chars");
  if (characters) charge_search(call.runtime, call.text(), *characters);
  const auto [begin, end] = stripped_range(call.text(), characters, left, right);
  return end - begin == call.text().size() ? call.receiver : call.runtime.make_text(call.text().part(begin, end));
}

Value split_by(const MethodCall& call, bool from_right) {
  const Text* separator = call.text_at(0, "sep");
  const int64_t limit = integer_argument(call.runtime, "maxsplit", call.arguments.find(1, "maxsplit"), -1);
  const std::string& bytes = call.text().bytes;
  if (!separator) {
    call.runtime.charge_values(
        std::count_if(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) - 33u > 94u; }));
    return list_of(call.runtime, split_whitespace(call.text(), limit, from_right));
  }
  if (separator->size() == 0) call.runtime.fail("split: the separator is empty");
  charge_search(call.runtime, call.text(), *separator);
  call.runtime.charge_values(count_occurrences(call.text(), *separator));
  return list_of(call.runtime, split(call.text(), *separator, limit, from_right));
}

// The part of the text that the arguments 1 and 2, `start` and `end`, leave to search in.
struct SearchedPart {
  size_t begin = 0;
  size_t end = 0;
  bool is_reversed = false;  // the start is behind the end: not even "" is found
};

SearchedPart searched_part(const MethodCall& call) {
  const Value* start = call.arguments.find(1, "start");
  const Value* stop = call.arguments.find(2, "end");
  const std::string& bytes = call.text().bytes;
  const bool has_start = start && !start->is<None>(), has_stop = stop && !stop->is<None>();
  if (!has_start && !has_stop) return {0, bytes.size()};
  const std::vector<size_t> offsets = code_point_offsets(bytes);
  const auto size = static_cast<int64_t>(offsets.size()) - 1;
  const auto bound = [&](std::string_view name, const Value* value, int64_t otherwise) {
    const int64_t given = value ? integer_argument(call.runtime, name, value, otherwise) : otherwise;
    return given < 0 ? std::max(given, -size) + size : given;
  };
  const int64_t begin = bound("start", has_start ? start : nullptr, 0);
  const int64_t end = std::min(bound("end", has_stop ? stop : nullptr, size), size);
  if (begin > end) return {0, 0, true};
  return {offsets[static_cast<size_t>(begin)], offsets[static_cast<size_t>(end)]};
}

Value tests_affix(const MethodCall& call, bool at_start) {
  const SearchedPart part = searched_part(call);
  const std::string_view bytes = std::string_view(call.text().bytes).substr(part.begin, part.end - part.begin);
  const auto has = [&](const Text& affix) {
    if (part.is_reversed) return false;
    return at_start ? bytes.starts_with(affix.bytes) : bytes.ends_with(affix.bytes);
  };
  const Value* affix = call.arguments.find(0, "prefix");
  if (!affix->sequence() || affix->sequence()->kind != SequenceKind::kTuple)
    return Value(has(call.required_text(0, "prefix")));
  for (const Value& item : affix->sequence()->items) {
    call.runtime.charge(1);
    if (!item.text()) call.runtime.fail("startswith and endswith take a str or a tuple of them");
    if (has(*item.text())) return Value(true);
  }
  return Value(false);
}

// In code points; -1: not found.
int64_t position(const MethodCall& call, bool from_right) {
  const Text& sought = call.required_text(0, "sub");
  charge_search(call.runtime, call.text(), sought);
  const SearchedPart part = searched_part(call);
  if (part.is_reversed) return -1;
  const std::string_view bytes = std::string_view(call.text().bytes).substr(0, part.end);
  const size_t found = from_right ? bytes.rfind(sought.bytes) : bytes.find(sought.bytes, part.begin);
  if (found == std::string_view::npos || found < part.begin) return -1;
  return static_cast<int64_t>(count_code_points(bytes.substr(0, found)));
}

Value required_position(const MethodCall& call, bool from_right) {
  const int64_t found = position(call, from_right);
  if (found < 0) call.runtime.fail("index: the substring is not in the string");
  return Value(found);
}

Value without_affix(const MethodCall& call, bool at_start) {
  const Text& affix = call.required_text(0, "prefix");
  const Text& text = call.text();
  if (affix.size() == 0 || !(at_start ? text.bytes.starts_with(affix.bytes) : text.bytes.ends_with(affix.bytes)))
    return call.receiver;
  return call.runtime.make_text(at_start ? text.part(affix.size(), text.size())
                                         : text.part(0, text.size() - affix.size()));
}

// True if the string is not empty and every code point satisfies the predicate.
Value all_are(const MethodCall& call, bool (*holds)(int32_t)) {
  const std::string& bytes = call.text().bytes;
  for (size_t at = 0; at < bytes.size(); at += code_point_size(bytes, at))
    if (!holds(code_point_at(bytes, at))) return Value(false);
  return Value(!bytes.empty());
}

Value replaced(const MethodCall& call) {
  const Text& from = call.required_text(0, "old");
  Text to = call.required_text(1, "new");
  if (call.text().is_markup) to = to_markup(call.runtime, *call.arguments.find(1, "new"));
  const int64_t limit = integer_argument(call.runtime, "count", call.arguments.find(2, "count"), -1);
  charge_search(call.runtime, call.text(), from);
  call.runtime.charge_text(replaced_size(call.text(), from, to, limit));
  return Runtime::wrap_text(replace(call.text(), from, to, limit));
}

Value joined(const MethodCall& call) {
  Text out;
  bool is_first = true;
  for (const Value& item : iterate(call.runtime, *call.arguments.find(0, "iterable"))) {
    if (!item.text() && !call.text().is_markup) call.runtime.fail("join: expected strings, found {}", type_name(item));
    if (!std::exchange(is_first, false)) call.runtime.append(out, call.text());
    call.runtime.append(out, call.text().is_markup ? to_markup(call.runtime, item) : *item.text());
  }
  return Runtime::wrap_text(std::move(out));
}

Value counted(const MethodCall& call) {
  const Text& sought = call.required_text(0, "sub");
  charge_search(call.runtime, call.text(), sought);
  const SearchedPart part = searched_part(call);
  if (part.is_reversed) return Value(int64_t{0});
  const Text searched = call.text().part(part.begin, part.end);
  if (sought.size() == 0) return Value(static_cast<int64_t>(count_code_points(searched.bytes) + 1));
  return Value(static_cast<int64_t>(count_occurrences(searched, sought)));
}

Value partitioned(const MethodCall& call, bool from_right) {
  const Text& separator = call.required_text(0, "sep");
  if (separator.size() == 0) call.runtime.fail("partition: the separator is empty");
  charge_search(call.runtime, call.text(), separator);
  const Text& text = call.text();
  const size_t found = from_right ? text.bytes.rfind(separator.bytes) : text.bytes.find(separator.bytes);
  std::array<Text, 3> parts;
  if (found == std::string::npos) {
    parts[from_right ? 2 : 0] = text;
  } else {
    const size_t end = found + separator.size();
    parts = {text.part(0, found), text.part(found, end), text.part(end, text.size())};
  }
  std::vector<Value> values;
  for (Text& part : parts) values.push_back(call.runtime.make_text(std::move(part)));
  return call.runtime.make_sequence(std::move(values), SequenceKind::kTuple);
}

// Python puts the odd one of padding on both sides to the left if the width is odd.
size_t left_padding(size_t padding, size_t width) { return padding / 2 + (padding & width & 1); }

enum class Side { kLeft, kRight, kBoth };

Value padded(const MethodCall& call, Side text_side) {
  const Value* given = call.arguments.find(1, "fillchar");
  Text fill = given ? call.required_text(1, "fillchar") : Text(" ");
  if (given && call.text().is_markup) fill = to_markup(call.runtime, *given);
  if (count_code_points(fill.bytes) != 1) call.runtime.fail("the fill character must be one character");
  const auto width = static_cast<size_t>(
      std::max<int64_t>(integer_argument(call.runtime, "width", call.arguments.find(0, "width"), 0), 0));
  const size_t size = count_code_points(call.text().bytes);
  if (width <= size) return call.receiver;
  size_t bytes = 0;
  if (__builtin_mul_overflow(width - size, fill.size(), &bytes)) bytes = std::numeric_limits<size_t>::max();
  call.runtime.charge_text(bytes);
  const size_t left = text_side == Side::kLeft    ? 0
                      : text_side == Side::kRight ? width - size
                                                  : left_padding(width - size, width);
  Text out;
  for (size_t i = 0; i < left; ++i) out.append(fill);
  call.runtime.append(out, call.text());
  for (size_t i = left; i < width - size; ++i) out.append(fill);
  return Runtime::wrap_text(std::move(out));
}

Value filled_with_zeros(const MethodCall& call) {
  const int64_t width = integer_argument(call.runtime, "width", call.arguments.find(0, "width"), 0);
  const Text& text = call.text();
  const auto size = static_cast<int64_t>(count_code_points(text.bytes));
  if (width <= size) return call.receiver;
  call.runtime.charge_text(static_cast<size_t>(width - size));
  const bool has_sign = text.bytes.starts_with('+') || text.bytes.starts_with('-');
  Text out = text.part(0, has_sign);
  out.append(std::string(static_cast<size_t>(width - size), '0'));
  call.runtime.append(out, text.part(has_sign, text.size()));
  return Runtime::wrap_text(std::move(out));
}

Value without_tabs(const MethodCall& call) {
  const int64_t size = integer_argument(call.runtime, "tabsize", call.arguments.find(0, "tabsize"), 8);
  const Text& text = call.text();
  Text out;
  int64_t column = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t next = at + code_point_size(text.bytes, at);
    const char c = text.bytes[at];
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      call.runtime.charge_text(static_cast<size_t>(spaces));
      call.runtime.append(out, Text(std::string(static_cast<size_t>(spaces), ' '), text.marks[at]));
      column += spaces;
    } else {
      out.append(text.part(at, next));
      column = c == '\n' || c == '\r' ? 0 : column + 1;
    }
    at = next;
  }
  return call.runtime.make_text(std::move(out));
}

bool is_ascii(const std::string& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_identifier(const std::string& bytes) {
  if (bytes.empty() || !starts_identifier(code_point_at(bytes, 0))) return false;
  for (size_t at = 0; at < bytes.size(); at += code_point_size(bytes, at))
    if (!continues_identifier(code_point_at(bytes, at))) return false;
  return true;
}

Value formatted_by_dict(const MethodCall& call) {
  const Dict* dict = call.arguments.find(0, "mapping")->dict();
  if (!dict) call.runtime.fail("format_map needs a dict, not {}", type_name(*call.arguments.find(0, "mapping")));
  Arguments arguments;
  for (const auto& [key, value] : dict->entries)
    if (key.text()) arguments.named.emplace_back(key.text()->bytes, value);
  return Runtime::wrap_text(format_braces(call.runtime, call.text(), arguments));
}

template <Text (*map)(const Text&)>
Value mapped(const MethodCall& call) {
  return call.runtime.make_text(map(call.text()));
}

template <bool (*holds)(int32_t)>
Value all_are(const MethodCall& call) {
  return all_are(call, holds);
}

const MethodEntry kTextMethods[] = {
    {"capitalize", {{}}, mapped<capitalize>},
    {"casefold", {{}}, mapped<fold_case>},
    {"center", {{"width", "fillchar"}, 1, true}, [](const MethodCall& c) { return padded(c, Side::kBoth); }},
    {"count", {{"sub", "start", "end"}, 1, true}, counted},
    {"endswith", {{"prefix", "start", "end"}, 1, true}, [](const MethodCall& c) { return tests_affix(c, false); }},
    {"expandtabs", {{"tabsize"}}, without_tabs},
    {"find", {{"sub", "start", "end"}, 1, true}, [](const MethodCall& c) { return Value(position(c, false)); }},
    {"format",
     {{"*"}},
     [](const MethodCall& c) { return Runtime::wrap_text(format_braces(c.runtime, c.text(), c.arguments)); }},
    {"format_map", {{"mapping"}, 1, true}, formatted_by_dict},
    {"index", {{"sub", "start", "end"}, 1, true}, [](const MethodCall& c) { return required_position(c, false); }},
    {"isalnum", {{}}, all_are<is_letter_or_number>},
    {"isalpha", {{}}, all_are<is_letter>},
    {"isascii", {{}}, [](const MethodCall& c) { return Value(is_ascii(c.text().bytes)); }},
    {"isdecimal", {{}}, all_are<is_decimal>},
    {"isdigit", {{}}, all_are<is_digit>},
    {"isidentifier", {{}}, [](const MethodCall& c) { return Value(is_identifier(c.text().bytes)); }},
    {"islower", {{}}, [](const MethodCall& c) { return Value(is_all_lower(c.text().bytes)); }},
    {"isnumeric", {{}}, all_are<is_numeric>},
    {"isprintable",
     {{}},
     [](const MethodCall& c) { return c.text().size() == 0 ? Value(true) : all_are(c, is_printable); }},
    {"isspace", {{}}, all_are<is_space>},
    {"istitle", {{}}, [](const MethodCall& c) { return Value(is_title(c.text().bytes)); }},
    {"isupper", {{}}, [](const MethodCall& c) { return Value(is_all_upper(c.text().bytes)); }},
    {"join", {{"iterable"}, 1, true}, joined},
    {"ljust", {{"width", "fillchar"}, 1, true}, [](const MethodCall& c) { return padded(c, Side::kLeft); }},
    {"lower", {{}}, mapped<lower>},
    {"lstrip", {{"chars"}, 0, true}, [](const MethodCall& c) { return stripped(c, true, false); }},
    {"partition", {{"sep"}, 1, true}, [](const MethodCall& c) { return partitioned(c, false); }},
    {"removeprefix", {{"prefix"}, 1, true}, [](const MethodCall& c) { return without_affix(c, true); }},
    {"removesuffix", {{"prefix"}, 1, true}, [](const MethodCall& c) { return without_affix(c, false); }},
    {"replace", {{"old", "new", "count"}, 2, true}, replaced},
    {"rfind", {{"sub", "start", "end"}, 1, true}, [](const MethodCall& c) { return Value(position(c, true)); }},
    {"rindex", {{"sub", "start", "end"}, 1, true}, [](const MethodCall& c) { return required_position(c, true); }},
    {"rjust", {{"width", "fillchar"}, 1, true}, [](const MethodCall& c) { return padded(c, Side::kRight); }},
    {"rpartition", {{"sep"}, 1, true}, [](const MethodCall& c) { return partitioned(c, true); }},
    {"rsplit", {{"sep", "maxsplit"}}, [](const MethodCall& c) { return split_by(c, true); }},
    {"rstrip", {{"chars"}, 0, true}, [](const MethodCall& c) { return stripped(c, false, true); }},
    {"split", {{"sep", "maxsplit"}}, [](const MethodCall& c) { return split_by(c, false); }},
    {"splitlines",
     {{"keepends"}},
     [](const MethodCall& c) {
       c.runtime.charge_values(max_lines(c.text()));
       return list_of(c.runtime, split_lines(c.text(), flag_argument(c.arguments.find(0, "keepends"), false)));
     }},
    {"startswith", {{"prefix", "start", "end"}, 1, true}, [](const MethodCall& c) { return tests_affix(c, true); }},
    {"strip", {{"chars"}, 0, true}, [](const MethodCall& c) { return stripped(c, true, true); }},
    {"swapcase", {{}}, mapped<swap_case>},
    {"title", {{}}, mapped<title>},
    {"upper", {{}}, mapped<upper>},
    {"zfill", {{"width"}, 1, true}, filled_with_zeros},
};

}  // namespace

std::span<const MethodEntry> text_methods() { return kTextMethods; }

}  // namespace plumb::jinja
