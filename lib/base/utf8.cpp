#include "lib/base/utf8.hpp"

#include <cstdint>
#include <cstring>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

struct Sequence {
  size_t size_bytes;  // of the sequence, or of the part to replace where it is ill-formed
  bool is_valid;
};

Sequence sequence_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {1, true};
  size_t size = 0;
  // The second byte has a narrower range after some leads: no overlong forms, no surrogates, nothing above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    size = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    size = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    size = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {1, false};
  }
  for (size_t i = 1; i < size; ++i) {
    if (at + i >= text.size() || byte(at + i) < low || byte(at + i) > high) return {i, false};
    low = 0x80, high = 0xBF;
  }
  return {size, true};
}

bool is_ascii_word(const char* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return (word & 0x8080808080808080u) == 0;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[at + i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

size_t code_point_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return begin;
}

void append_code_point(std::string& text, char32_t value) {
  const auto append = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    append(value);
  } else if (value < 0x800) {
    append(0xC0 | value >> 6), append(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    append(0xE0 | value >> 12), append(0x80 | (value >> 6 & 0x3F)), append(0x80 | (value & 0x3F));
  } else {
    append(0xF0 | value >> 18), append(0x80 | (value >> 12 & 0x3F));
    append(0x80 | (value >> 6 & 0x3F)), append(0x80 | (value & 0x3F));
  }
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (at + 8 <= text.size() && is_ascii_word(text.data() + at)) {
      at += 8;
      continue;
    }
    const Sequence sequence = sequence_at(text, at);
    if (!sequence.is_valid) return at;
    at += sequence.size_bytes;
  }
  return std::string_view::npos;
}

void check_utf8(std::string_view text, std::string_view where) {
  const size_t at = find_invalid_utf8(text);
  if (at != std::string_view::npos) {
    throw_error<DataError>("{}: byte {}: expected UTF-8, got the byte 0x{:02X}; is the file in another encoding?",
                           where, at, static_cast<unsigned char>(text[at]));
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  if (find_invalid_utf8(text) == std::string_view::npos) return std::string(text);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Sequence sequence = sequence_at(text, at);
    if (sequence.is_valid) {
      out.append(text, at, sequence.size_bytes);
    } else {
      append_code_point(out, 0xFFFD);
    }
    at += sequence.size_bytes;
  }
  return out;
}

bool is_white_space(char32_t value) {
  return (value >= 0x09 && value <= 0x0D) || value == 0x20 || value == 0x85 || value == 0xA0 || value == 0x1680 ||
         (value >= 0x2000 && value <= 0x200A) || value == 0x2028 || value == 0x2029 || value == 0x202F ||
         value == 0x205F || value == 0x3000;
}

}  // namespace plumb
