#include "lib/jinja/text.hpp"

#include <algorithm>
#include <limits>

namespace plumb::jinja {

// A little more than is needed, because short pieces often follow a long one.
static void grow(Text& text, size_t added) {
  const size_t size = text.size() + added;
  if (size > text.bytes.capacity()) text.reserve(std::max(2 * text.bytes.capacity(), size + size / 8));
}

void Text::append(const Text& other) {
  grow(*this, other.size());
  bytes += other.bytes;
  marks += other.marks;
}

void Text::append(std::string_view text, char mark) {
  grow(*this, text.size());
  bytes += text;
  marks.append(text.size(), mark);
}

Text Text::part(size_t begin, size_t end) const {
  Text part;
  if (begin >= end) return part;
  part.bytes = bytes.substr(begin, end - begin);
  part.marks = marks.substr(begin, end - begin);
  return part;
}

size_t long_code_point_size(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const size_t size = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (size == 0 || at + size > text.size()) return 1;
  for (size_t i = 1; i < size; ++i)
    if ((byte(at + i) & 0xC0) != 0x80) return 1;
  return size;
}

int32_t code_point_at(std::string_view text, size_t at) {
  const size_t size = code_point_size(text, at);
  const auto lead = static_cast<unsigned char>(text[at]);
  if (size == 1) return lead;
  int32_t code_point = lead & (0x7F >> size);
  for (size_t i = 1; i < size; ++i) code_point = (code_point << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  return code_point;
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); at += code_point_size(text, at)) ++count;
  return count;
}

std::vector<size_t> code_point_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  offsets.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += code_point_size(text, at)) offsets.push_back(at);
  offsets.push_back(text.size());
  return offsets;
}

void append_utf8(std::string& out, int32_t code_point) {
  const auto put = [&](int32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6)), put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12)), put(0x80 | ((code_point >> 6) & 0x3F)), put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18)), put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F)), put(0x80 | (code_point & 0x3F));
  }
}

static size_t previous_offset(std::string_view text, size_t end, size_t begin) {
  if (static_cast<unsigned char>(text[end - 1]) < 0x80) return end - 1;
  for (size_t size = 2; size <= 4 && size <= end - begin; ++size)
    if (code_point_size(text, end - size) == size) return end - size;
  return end - 1;
}

std::optional<size_t> code_point_offset(std::string_view text, int64_t index) {
  size_t at = index < 0 ? text.size() : 0;
  for (; index > 0 && at < text.size(); --index) at += code_point_size(text, at);
  for (; index < 0 && at > 0; ++index) at = previous_offset(text, at, 0);
  return index == 0 && at < text.size() ? std::optional(at) : std::nullopt;
}

bool is_space(int32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

// Each byte of an invalid sequence is a code point of its own that equals no character, so it is never white space.
bool is_space_at(std::string_view text, size_t at) {
  if (static_cast<unsigned char>(text[at]) < 0x80) return is_space(text[at]);
  return code_point_size(text, at) > 1 && is_space(code_point_at(text, at));
}

std::pair<size_t, size_t> stripped_range(const Text& text, const Text* characters, bool strips_left,
                                         bool strips_right) {
  const std::string_view bytes = text.bytes;
  const auto goes = [&](size_t at) {
    if (!characters) return is_space_at(bytes, at);
    const std::string_view sought = bytes.substr(at, code_point_size(bytes, at));
    const std::string_view set = characters->bytes;
    for (size_t i = 0; i < set.size(); i += code_point_size(set, i))
      if (set.substr(i, code_point_size(set, i)) == sought) return true;
    return false;
  };
  size_t begin = 0;
  size_t end = bytes.size();
  while (strips_left && begin < end && goes(begin)) begin += code_point_size(bytes, begin);
  while (strips_right && begin < end) {
    const size_t last = previous_offset(bytes, end, begin);
    if (!goes(last)) break;
    end = last;
  }
  return {begin, end};
}

Text strip(const Text& text, const Text* characters, bool strips_left, bool strips_right) {
  const auto [begin, end] = stripped_range(text, characters, strips_left, strips_right);
  return text.part(begin, end);
}

std::vector<Text> split(const Text& text, const Text& separator, int64_t limit, bool from_right) {
  std::vector<Text> parts;
  const std::string_view bytes = text.bytes;
  const auto is_full = [&] { return limit >= 0 && static_cast<int64_t>(parts.size()) >= limit; };
  if (from_right) {
    size_t end = bytes.size();
    while (!is_full()) {
      const size_t found = bytes.substr(0, end).rfind(separator.bytes);
      if (found == std::string_view::npos) break;
      parts.push_back(text.part(found + separator.size(), end));
      end = found;
    }
    parts.push_back(text.part(0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (!is_full()) {
    const size_t found = bytes.find(separator.bytes, begin);
    if (found == std::string_view::npos) break;
    parts.push_back(text.part(begin, found));
    begin = found + separator.size();
  }
  parts.push_back(text.part(begin, bytes.size()));
  return parts;
}

std::vector<Text> split_whitespace(const Text& text, int64_t limit, bool from_right) {
  std::vector<Text> parts;
  const std::string_view bytes = text.bytes;
  const auto is_full = [&] { return limit >= 0 && static_cast<int64_t>(parts.size()) >= limit; };
  size_t begin = 0;
  size_t end = bytes.size();
  if (from_right) {
    const auto is_space_before = [&](size_t at) { return is_space_at(bytes, previous_offset(bytes, at, 0)); };
    while (true) {
      while (end > 0 && is_space_before(end)) end = previous_offset(bytes, end, 0);
      if (end == 0) break;
      begin = is_full() ? 0 : end;
      while (begin > 0 && !is_space_before(begin)) begin = previous_offset(bytes, begin, 0);
      parts.push_back(text.part(begin, end));
      end = begin;
    }
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  while (true) {
    while (begin < bytes.size() && is_space_at(bytes, begin)) begin += code_point_size(bytes, begin);
    if (begin == bytes.size()) break;
    end = is_full() ? bytes.size() : begin;
    while (end < bytes.size() && !is_space_at(bytes, end)) end += code_point_size(bytes, end);
    parts.push_back(text.part(begin, end));
    begin = end;
  }
  return parts;
}

std::vector<Text> split_lines(const Text& text, bool keeps_ends) {
  std::vector<Text> lines;
  const std::string_view bytes = text.bytes;
  const auto ends_line = [&](size_t at) {
    const int32_t c = code_point_at(bytes, at);
    if (c >= 0x80 && code_point_size(bytes, at) == 1) return false;
    return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
  };
  size_t begin = 0;
  while (begin < bytes.size()) {
    size_t end = begin;
    while (end < bytes.size() && !ends_line(end)) end += code_point_size(bytes, end);
    size_t next = end;
    if (next < bytes.size()) next += bytes.substr(next, 2) == "\r\n" ? 2 : code_point_size(bytes, next);
    lines.push_back(text.part(begin, keeps_ends ? next : end));
    begin = next;
  }
  return lines;
}

size_t max_lines(const Text& text) {
  return 1 + static_cast<size_t>(std::count_if(text.bytes.begin(), text.bytes.end(), [](char c) {
           return (c >= 0x0A && c <= 0x1E) || c == '\x85' || c == '\xA8' || c == '\xA9';
         }));
}

size_t count_occurrences(const Text& text, const Text& sought) {
  size_t count = 0;
  for (size_t at = text.bytes.find(sought.bytes); at != std::string::npos; ++count)
    at = text.bytes.find(sought.bytes, at + sought.size());
  return count;
}

size_t replaced_size(const Text& text, const Text& from, const Text& to, int64_t limit) {
  size_t count = 0;
  if (from.size() == 0) {
    count = count_code_points(text.bytes) + 1;
  } else {
    count = count_occurrences(text, from);
  }
  if (limit >= 0) count = std::min(count, static_cast<size_t>(limit));
  size_t added = 0;
  if (__builtin_mul_overflow(count, to.size(), &added)) return std::numeric_limits<size_t>::max();
  return text.size() - count * from.size() + added;
}

Text replace(const Text& text, const Text& from, const Text& to, int64_t limit) {
  Text out;
  size_t begin = 0;
  if (from.size() == 0) {
    // Python inserts the new text before every character and at the end
    for (int64_t count = 0; limit < 0 || count < limit; ++count) {
      out.append(to);
      if (begin == text.size()) return out;
      const size_t end = begin + code_point_size(text.bytes, begin);
      out.append(text.part(begin, end));
      begin = end;
    }
  } else {
    for (int64_t count = 0; limit < 0 || count < limit; ++count) {
      const size_t found = text.bytes.find(from.bytes, begin);
      if (found == std::string::npos) break;
      out.append(text.part(begin, found));
      out.append(to);
      begin = found + from.size();
    }
  }
  out.append(text.part(begin, text.size()));
  return out;
}

Text reverse(const Text& text) {
  Text out;
  for (size_t end = text.size(); end > 0;) {
    const size_t begin = previous_offset(text.bytes, end, 0);
    out.append(text.part(begin, end));
    end = begin;
  }
  return out;
}

}  // namespace plumb::jinja
