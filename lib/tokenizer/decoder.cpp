#include "lib/tokenizer/decoder.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/byte_level.hpp"
#include "lib/tokenizer/normalizer.hpp"

namespace plumb {

namespace {

constexpr int kMaxDepth = 16;
using Tokens = std::vector<std::string>;

size_t count_field(const Json& value, const char* key, std::string_view where) {
  const Json& count = field_or_null(value, key, where);
  if (!count.is_number_integer() || (!count.is_number_unsigned() && count.get<int64_t>() < 0)) {
    throw_error<DataError>("{}: {}: expected a count, got {}", where, key, count.dump());
  }
  return count.get<size_t>();
}

void parse_into(std::vector<DecoderStep>& steps, const Json& value, std::string_view where, int depth) {
  if (depth > kMaxDepth) throw_error<DataError>("{}: sequences nested more than {} deep", where, kMaxDepth);
  const std::string type = string_field(value, "type", where);
  if (type == "Sequence") {
    for (const Json& part : array_field(value, "decoders", where)) parse_into(steps, part, where, depth + 1);
  } else if (type == "ByteLevel") {
    steps.emplace_back(DecodeByteLevel{});
  } else if (type == "Replace") {
    steps.emplace_back(DecodeReplace{parse_pattern(field_or_null(value, "pattern", where), where),
                                     string_field(value, "content", where)});
  } else if (type == "ByteFallback") {
    steps.emplace_back(DecodeByteFallback{});
  } else if (type == "Fuse") {
    steps.emplace_back(DecodeFuse{});
  } else if (type == "Strip") {
    const std::string content = string_field(value, "content", where);
    if (content.empty() || code_point_at(content, 0).size_bytes != content.size()) {
      throw_error<DataError>("{}: content: expected one character, got '{}'", where, content);
    }
    steps.emplace_back(DecodeStrip{content, count_field(value, "start", where), count_field(value, "stop", where)});
  } else if (type == "Metaspace") {
    steps.emplace_back(DecodeMetaspace{Pattern::literal(parse_replacement(value, where), where),
                                       parse_prepend_scheme(value, where) != PrependScheme::kNever});
  } else {
    throw_error<DataError>(
        "{}: type: expected one of Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, got {}", where,
        type);
  }
}

// Returns false, and appends nothing, if a character represents no byte.
bool append_bytes(std::string_view token, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t at = 0; at < token.size();) {
    const CodePoint point = code_point_at(token, at);
    if (point.value >= kByteLevelLimit || kByteLevelInverse[point.value] < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(kByteLevelInverse[point.value]));
    at += point.size_bytes;
  }
  return true;
}

// `limit` is the remaining growth allowed for all tokens together, and is reduced.
std::string replaced(std::string_view text, const Pattern& pattern, std::string_view content, size_t& limit) {
  std::vector<ByteRange> matches;
  if (!text.empty()) pattern.find_all(text, matches);
  const size_t size_bytes = text.size() + matches.size() * content.size();
  check_growth(size_bytes, limit);
  limit -= size_bytes;
  std::string out;
  size_t at = 0;
  for (const ByteRange& match : matches) {
    out.append(text, at, match.begin - at);
    out += content;
    at = match.end;
  }
  return out.append(text, at);
}

// Parses <0xNN>.
std::optional<char> named_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>')) return std::nullopt;
  unsigned byte = 0;
  const char* end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, byte, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  return static_cast<char>(byte);
}

void apply(DecodeByteLevel, Tokens& tokens, size_t) {
  std::string bytes;
  for (const std::string& token : tokens) {
    if (!append_bytes(token, bytes)) bytes += token;
  }
  tokens = {replace_invalid_utf8(bytes)};
}

void apply(const DecodeReplace& step, Tokens& tokens, size_t limit) {
  for (std::string& token : tokens) token = replaced(token, step.pattern, step.content, limit);
}

void apply(DecodeByteFallback, Tokens& tokens, size_t) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (find_invalid_utf8(bytes) == std::string_view::npos) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");  // one U+FFFD per byte of the run
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const std::optional<char> byte = named_byte(token)) {
      bytes.push_back(*byte);
      continue;
    }
    flush();
    out.push_back(std::move(token));
  }
  flush();
  tokens = std::move(out);
}

void apply(DecodeFuse, Tokens& tokens, size_t) {
  std::string text;
  for (const std::string& token : tokens) text += token;
  tokens = {std::move(text)};
}

void apply(const DecodeStrip& step, Tokens& tokens, size_t) {
  for (std::string& token : tokens) {
    const size_t size = step.content.size();
    std::string_view rest = token;
    for (size_t i = 0; i < step.start && rest.starts_with(step.content); ++i) rest.remove_prefix(size);
    for (size_t i = 0; i < step.stop && rest.ends_with(step.content); ++i) rest.remove_suffix(size);
    token = std::string(rest);
  }
}

void apply(const DecodeMetaspace& step, Tokens& tokens, size_t limit) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = replaced(tokens[i], step.replacement, i == 0 && step.drops_first ? "" : " ", limit);
  }
}

}  // namespace

std::vector<DecoderStep> parse_decoder(const nlohmann::json& value, std::string_view where) {
  std::vector<DecoderStep> steps;
  parse_into(steps, value, where, 0);
  return steps;
}

std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens) {
  size_t size_bytes = 0;
  for (const std::string& token : tokens) size_bytes += token.size();
  const size_t limit = growth_limit_bytes(size_bytes);
  for (const DecoderStep& step : steps) {
    std::visit([&](const auto& kind) { apply(kind, tokens, limit); }, step);
  }
  apply(DecodeFuse{}, tokens, limit);
  return std::move(tokens[0]);
}

}  // namespace plumb
