// The printable character for each byte in byte-level vocabularies: printable Latin-1 represents itself, the other
// bytes become U+0100, U+0101, ... in order. Source: GPT-2's encoder (bytes_to_unicode).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "lib/base/utf8.hpp"

namespace plumb {

constexpr char32_t kByteLevelLimit = 0x144;  // one past the largest of these characters

constexpr std::array<char32_t, 256> make_byte_level_table() {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (size_t byte = 0; byte < table.size(); ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
    table[byte] = is_printable ? static_cast<char32_t>(byte) : next++;
  }
  return table;
}
constexpr std::array<char32_t, 256> kByteLevelTable = make_byte_level_table();

/// The byte that a code point represents, or -1.
constexpr std::array<int16_t, kByteLevelLimit> make_byte_level_inverse() {
  std::array<int16_t, kByteLevelLimit> inverse{};
  for (int16_t& byte : inverse) byte = -1;
  for (size_t byte = 0; byte < kByteLevelTable.size(); ++byte) {
    inverse[kByteLevelTable[byte]] = static_cast<int16_t>(byte);
  }
  return inverse;
}
constexpr std::array<int16_t, kByteLevelLimit> kByteLevelInverse = make_byte_level_inverse();

inline void append_byte_level(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) append_code_point(out, kByteLevelTable[static_cast<unsigned char>(byte)]);
}

}  // namespace plumb
