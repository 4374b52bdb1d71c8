#include "lib/tokenizer/token_ranges.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "lib/base/utf8.hpp"
#include "lib/tokenizer/byte_level.hpp"

namespace plumb {
namespace {

size_t skip_white_space(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint point = code_point_at(text, at);
    if (!is_white_space(point.value)) break;
    at += point.size_bytes;
  }
  return at;
}

/// The range of a token that the text spells at `at`, perhaps without the space that tokenizers put first.
std::optional<ByteRange> match(const TokenText& token, std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with(token.text)) return ByteRange{at, at + token.text.size()};
  if (token.is_added || !token.text.starts_with(' ')) return std::nullopt;
  const std::string_view unprefixed = std::string_view(token.text).substr(1);
  if (rest.starts_with(unprefixed)) return ByteRange{at, at + unprefixed.size()};
  return std::nullopt;
}

/// The bytes that a token of a byte-level vocabulary stands for.
std::string bytes_of_byte_level(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const CodePoint point = code_point_at(token, at);
    const int16_t byte = point.value < kByteLevelLimit ? kByteLevelInverse[point.value] : int16_t{-1};
    if (byte >= 0) {
      bytes.push_back(static_cast<char>(byte));
    } else {
      bytes.append(token, at, point.size_bytes);
    }
    at += point.size_bytes;
  }
  return bytes;
}

/// The bytes that a token of a SentencePiece vocabulary stands for: a byte as <0xNN>, or text with U+2581 for a space.
std::string bytes_of_metaspace(std::string_view token) {
  constexpr std::string_view kSpace = "\u2581";
  unsigned byte = 0;
  if (token.size() == 6 && token.starts_with("<0x") && token.ends_with('>')) {
    const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
    if (error == std::errc() && end == token.data() + 5) return std::string(1, static_cast<char>(byte));
  }
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const bool is_space = token.substr(at).starts_with(kSpace);
    bytes.push_back(is_space ? ' ' : token[at]);
    at += is_space ? kSpace.size() : 1;
  }
  return bytes;
}

}  // namespace

std::string bytes_of_token(std::string_view token, bool is_byte_level) {
  return is_byte_level ? bytes_of_byte_level(token) : bytes_of_metaspace(token);
}

std::optional<std::vector<ByteRange>> find_token_ranges(std::span<const TokenText> tokens, std::string_view text) {
  std::vector<ByteRange> ranges;
  ranges.reserve(tokens.size());
  size_t at = 0;
  for (const TokenText& token : tokens) {
    std::optional<ByteRange> range = match(token, text, at);
    // a control token may have consumed the white space beside it
    if (!range) range = match(token, text, skip_white_space(text, at));
    if (!range && !token.is_added) return std::nullopt;
    ranges.push_back(range.value_or(ByteRange{at, at}));
    at = ranges.back().end;
  }
  if (skip_white_space(text, at) != text.size()) return std::nullopt;
  return ranges;
}

size_t token_at(std::span<const ByteRange> ranges, size_t at) {
  const auto after =
      std::partition_point(ranges.begin(), ranges.end(), [&](const ByteRange& range) { return range.end <= at; });
  return static_cast<size_t>(after - ranges.begin());
}

}  // namespace plumb
