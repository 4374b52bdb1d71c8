#include "lib/jinja/html.hpp"

#include <algorithm>
#include <array>

namespace plumb::jinja {

Text escape_html(Runtime& runtime, const Text& text) {
  Text out;
  out.is_markup = true;
  size_t begin = 0;
  for (size_t at = text.bytes.find_first_of("&<>\"'"); at != std::string::npos;
       at = text.bytes.find_first_of("&<>\"'", begin)) {
    out.append(text.part(begin, at));
    const char c = text.bytes[at];
    out.append(c == '&'   ? "&amp;"
               : c == '<' ? "&lt;"
               : c == '>' ? "&gt;"
               : c == '"' ? "&#34;"
                          : "&#39;",
               text.marks[at]);
    begin = at + 1;
  }
  out.append(text.part(begin, text.size()));
  runtime.charge_text(out.size());
  return out;
}

Text to_markup(Runtime& runtime, const Value& value) {
  const Text text = to_text(runtime, value);
  return text.is_markup ? text : escape_html(runtime, text);
}

static Text without_tags(const Text& text) {
  Text out;
  size_t begin = 0;
  while (true) {
    const size_t open = text.bytes.find('<', begin);
    if (open == std::string::npos) break;
    const bool is_comment = text.bytes.compare(open, 4, "<!--") == 0;
    const size_t close = is_comment ? text.bytes.find("-->", open + 4) : text.bytes.find('>', open);
    if (close == std::string::npos) break;
    out.append(text.part(begin, open));
    begin = close + (is_comment ? 3 : 1);
  }
  out.append(text.part(begin, text.size()));
  return out;
}

// The code point of a numeric character reference as HTML 5 reads it; -1 if it stands for nothing.
static int32_t referenced_character(uint32_t number) {
  static constexpr std::array<int32_t, 32> kWindows = {0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                                       0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8D,   0x017D, 0x8F,
                                                       0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                                       0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
  if (number >= 0x80 && number < 0xA0) return kWindows[number - 0x80];
  if (number == 0 || (number >= 0xD800 && number < 0xE000) || number > 0x10FFFF) return 0xFFFD;
  const bool is_control = (number < 0x20 && number != '\t' && number != '\n' && number != '\r' && number != '\f') ||
                          number == 0x7F || (number >= 0xFDD0 && number < 0xFDF0) || (number & 0xFFFE) == 0xFFFE;
  return is_control ? -1 : static_cast<int32_t>(number);
}

// Appends what the entity at `at` stands for and returns where it ends.
static size_t append_entity(const Runtime& runtime, Text& out, const Text& text, size_t at) {
  const std::string& bytes = text.bytes;
  const char mark = text.marks[at];
  size_t end = at + 1;
  if (end < bytes.size() && bytes[end] == '#') {
    const bool is_hex = end + 1 < bytes.size() && (bytes[end + 1] | 0x20) == 'x';
    const size_t first = end + (is_hex ? 2 : 1);
    uint32_t number = 0;
    for (end = first; end < bytes.size(); ++end) {
      const char c = bytes[end];
      const bool is_digit = c >= '0' && c <= '9';
      if (!is_digit && !(is_hex && (c | 0x20) >= 'a' && (c | 0x20) <= 'f')) break;
      const uint32_t digit = static_cast<uint32_t>(is_digit ? c - '0' : (c | 0x20) - 'a' + 10);
      number = std::min<uint32_t>(number * (is_hex ? 16 : 10) + digit, 0x110000);
    }
    if (end > first) {
      std::string character;
      if (const int32_t c = referenced_character(number); c >= 0) append_utf8(character, c);
      out.append(character, mark);
      return end + (end < bytes.size() && bytes[end] == ';');
    }
    out.append("&", mark);
    return at + 1;
  }
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kNames = {
      {{"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}, {"nbsp", "\xC2\xA0"}}};
  const auto is_letter = [](char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; };
  while (end < bytes.size() && (is_letter(bytes[end]) || (bytes[end] >= '0' && bytes[end] <= '9'))) ++end;
  const std::string_view name = std::string_view(bytes).substr(at + 1, end - at - 1);
  const bool is_closed = end < bytes.size() && bytes[end] == ';';
  for (const auto& [known, character] : kNames)
    if (name == known && (is_closed || name != "apos")) {
      out.append(character, mark);
      return end + is_closed;
    }
  if (!name.empty() && is_letter(name[0]))
    runtime.fail("striptags: '&{}' may be an HTML entity, which is not supported; supported: numbers, {}",
                 name.substr(0, 40), "amp, lt, gt, quot, apos, nbsp");
  out.append("&", mark);
  return end;
}

Text strip_tags(Runtime& runtime, const Text& text) {
  runtime.charge_values(static_cast<size_t>(std::count(text.bytes.begin(), text.bytes.end(), '<')) +
                        split_whitespace(text, -1, false).size());
  Text spaced;
  for (const Text& word : split_whitespace(without_tags(text), -1, false)) {
    if (spaced.size() > 0) spaced.append(" ", word.marks[0]);
    spaced.append(word);
  }
  Text out;
  for (size_t at = 0; at < spaced.size();) {
    const size_t entity = std::min(spaced.bytes.find('&', at), spaced.size());
    out.append(spaced.part(at, entity));
    at = entity == spaced.size() ? entity : append_entity(runtime, out, spaced, entity);
  }
  runtime.charge_text(out.size());
  return out;
}

}  // namespace plumb::jinja
