// Strings of the template engine: UTF-8 bytes, each with a mark that says whether it came from a user message. Every
// operation here preserves the marks. Positions count code points, as in Python.
// Source: the Python language reference, methods of str.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plumb::jinja {

constexpr char kTemplateMark = 0;
constexpr char kUserMark = 1;  // any mark but kTemplateMark is one of a user; further ones tell messages apart

struct Text {
  std::string bytes;
  std::string marks;       // one per byte
  bool is_markup = false;  // HTML, made by `escape` or `safe`: what is added to it is escaped

  Text() = default;
  explicit Text(std::string_view text, char mark = kTemplateMark) : bytes(text), marks(text.size(), mark) {}

  size_t size() const { return bytes.size(); }
  void reserve(size_t size) {
    bytes.reserve(size);
    marks.reserve(size);
  }
  void append(const Text& other);
  void append(std::string_view text, char mark = kTemplateMark);
  Text part(size_t begin, size_t end) const;  // by bytes
};

size_t long_code_point_size(std::string_view text, size_t at);
/// Bytes of the code point at `at`; a byte that starts no valid sequence counts as one code point.
inline size_t code_point_size(std::string_view text, size_t at) {
  return static_cast<unsigned char>(text[at]) < 0x80 ? 1 : long_code_point_size(text, at);
}
int32_t code_point_at(std::string_view text, size_t at);
size_t count_code_points(std::string_view text);
/// The byte offset of every code point, then the size.
std::vector<size_t> code_point_offsets(std::string_view text);
/// The byte offset of one code point, counted from the end if negative; nullopt if out of range.
std::optional<size_t> code_point_offset(std::string_view text, int64_t index);
void append_utf8(std::string& out, int32_t code_point);

bool is_space(int32_t code_point);
bool is_space_at(std::string_view text, size_t at);
/// The bytes, from begin to end, without white space, or the code points of `characters`, at the chosen ends.
std::pair<size_t, size_t> stripped_range(const Text& text, const Text* characters, bool strips_left, bool strips_right);
Text strip(const Text& text, const Text* characters, bool strips_left, bool strips_right);

/// A negative `limit` means no limit. `separator` must not be empty.
std::vector<Text> split(const Text& text, const Text& separator, int64_t limit, bool from_right);
std::vector<Text> split_whitespace(const Text& text, int64_t limit, bool from_right);
std::vector<Text> split_lines(const Text& text, bool keeps_ends);
size_t max_lines(const Text& text);  // a cheap upper bound on the number of lines

size_t count_occurrences(const Text& text, const Text& sought);  // non-overlapping

/// The size in bytes of the result of replace(); saturates.
size_t replaced_size(const Text& text, const Text& from, const Text& to, int64_t limit);
Text replace(const Text& text, const Text& from, const Text& to, int64_t limit);
Text reverse(const Text& text);

/// Simple case mappings of Unicode (one code point to one), plus sharp s and final sigma.
Text upper(const Text& text);
Text lower(const Text& text);
Text capitalize(const Text& text);
/// str.title(): a letter after a letter is lower case.
Text title(const Text& text);
Text swap_case(const Text& text);
Text fold_case(const Text& text);
/// Jinja's filter `title`: words begin after white space, hyphens and opening brackets.
Text title_words(const Text& text);

/// True if there is a cased letter and all cased letters are upper (or lower) case.
bool is_all_upper(std::string_view text);
bool is_all_lower(std::string_view text);
/// True if upper case letters start words, and only they.
bool is_title(std::string_view text);

}  // namespace plumb::jinja
