#include "lib/tokenizer/normalizer.hpp"

#include <algorithm>
#include <type_traits>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr int kMaxDepth = 16;

void parse_into(std::vector<NormalizerStep>& steps, const Json& value, std::string_view where, int depth) {
  if (value.is_null()) return;
  if (depth > kMaxDepth) throw_error<DataError>("{}: sequences nested more than {} deep", where, kMaxDepth);
  const std::string type = string_field(value, "type", where);
  if (type == "Sequence") {
    for (const Json& part : array_field(value, "normalizers", where)) parse_into(steps, part, where, depth + 1);
  } else if (type == "Prepend") {
    steps.emplace_back(PrependText{string_field(value, "prepend", where)});
  } else if (type == "Replace") {
    steps.emplace_back(ReplaceText{parse_pattern(field_or_null(value, "pattern", where), where),
                                   string_field(value, "content", where)});
  } else if (type == "NFC") {
    steps.emplace_back(UnicodeForm::kNfc);
  } else if (type == "NFD") {
    steps.emplace_back(UnicodeForm::kNfd);
  } else if (type == "NFKC") {
    steps.emplace_back(UnicodeForm::kNfkc);
  } else if (type == "NFKD") {
    steps.emplace_back(UnicodeForm::kNfkd);
  } else if (type == "Lowercase") {
    steps.emplace_back(LowercaseText{});
  } else if (type == "Strip") {
    steps.emplace_back(
        StripText{bool_field(value, "strip_left", true, where), bool_field(value, "strip_right", true, where)});
  } else {
    throw_error<DataError>(
        "{}: type: expected one of Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip, got {}", where,
        type);
  }
}

// The text under construction, and its flags if they are wanted.
struct Output {
  std::string text;
  std::string flags;
  bool has_flags;

  void append(std::string_view part, char flag) {
    text += part;
    if (has_flags) flags.append(part.size(), flag);
  }
  void copy(const std::string& from, const std::string* from_flags, size_t begin, size_t end) {
    text.append(from, begin, end - begin);
    if (has_flags) flags.append(*from_flags, begin, end - begin);
  }
  void give(std::string& to, std::string* to_flags) {
    to = std::move(text);
    if (has_flags) *to_flags = std::move(flags);
  }
};

char any_flag(const std::string* flags, size_t begin, size_t end) {
  if (flags == nullptr) return '\0';
  return std::string_view(*flags).substr(begin, end - begin).find('\1') != std::string_view::npos ? '\1' : '\0';
}

void apply(const PrependText& step, std::string& text, std::string* flags, size_t limit) {
  if (text.empty()) return;
  check_growth(text.size() + step.text.size(), limit);
  text.insert(0, step.text);
  if (flags != nullptr) flags->insert(0, step.text.size(), '\0');
}

void apply(const ReplaceText& step, std::string& text, std::string* flags, size_t limit) {
  std::vector<ByteRange> matches;
  if (text.empty()) return;
  step.pattern.find_all(text, matches);
  if (matches.empty()) return;
  check_growth(text.size() + matches.size() * step.content.size(), limit);
  Output out{{}, {}, flags != nullptr};
  out.text.reserve(text.size() + matches.size() * step.content.size());
  size_t at = 0;
  for (const ByteRange& match : matches) {
    out.copy(text, flags, at, match.begin);
    out.append(step.content, any_flag(flags, match.begin, match.end));
    at = match.end;
  }
  out.copy(text, flags, at, text.size());
  out.give(text, flags);
}

// An ASCII character never combines with the text before it, so the text splits into independent parts, each an ASCII
// character and what follows up to the next one.
void apply(UnicodeForm form, std::string& text, std::string* flags, size_t) {
  const auto is_ascii = [&](size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
  size_t at = 0;
  while (at < text.size() && is_ascii(at)) ++at;
  if (at == text.size()) return;
  Output out{{}, {}, flags != nullptr};
  out.text.reserve(text.size());
  size_t copied = 0;
  while (at < text.size()) {
    const size_t begin = at > copied ? at - 1 : at;
    out.copy(text, flags, copied, begin);
    size_t end = at;
    while (end < text.size() && !is_ascii(end)) ++end;
    const std::string part = to_unicode_form(std::string_view(text).substr(begin, end - begin), form);
    // A leading character that is unchanged keeps its own flag: user marks after it do not turn it into user text.
    const size_t kept = begin < at && !part.empty() && part[0] == text[begin] ? 1 : 0;
    if (kept > 0) out.copy(text, flags, begin, begin + 1);
    out.append(std::string_view(part).substr(kept), any_flag(flags, begin + kept, end));
    copied = at = end;
    while (at < text.size() && is_ascii(at)) ++at;
  }
  out.copy(text, flags, copied, text.size());
  out.give(text, flags);
}

void apply(LowercaseText, std::string& text, std::string* flags, size_t) {
  Output out{{}, {}, flags != nullptr};
  out.text.reserve(text.size());
  std::string lower;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    lower.clear();
    append_lowercase(lower, point.value);
    out.append(lower, flags != nullptr ? (*flags)[at] : '\0');
    at += point.size_bytes;
  }
  out.give(text, flags);
}

void apply(StripText step, std::string& text, std::string* flags, size_t) {
  size_t begin = 0, end = text.size();
  while (step.strips_left && begin < end) {
    const CodePoint point = code_point_at(text, begin);
    if (!is_white_space(point.value)) break;
    begin += point.size_bytes;
  }
  while (step.strips_right && end > begin) {
    const size_t last = code_point_before(text, end);
    if (!is_white_space(code_point_at(text, last).value)) break;
    end = last;
  }
  text = text.substr(begin, end - begin);
  if (flags != nullptr) *flags = flags->substr(begin, end - begin);
}

}  // namespace

Pattern parse_pattern(const nlohmann::json& value, std::string_view where) {
  if (const std::optional<std::string> text = optional_string_field(value, "String", where)) {
    return Pattern::literal(*text, where);
  }
  if (const std::optional<std::string> expression = optional_string_field(value, "Regex", where)) {
    return Pattern::regex(*expression, where);
  }
  throw_error<DataError>("{}: pattern: expected {{\"String\": ...}} or {{\"Regex\": ...}}", where);
}

std::vector<NormalizerStep> parse_normalizer(const nlohmann::json& value, std::string_view where) {
  std::vector<NormalizerStep> steps;
  parse_into(steps, value, where, 0);
  return steps;
}

void normalize(const std::vector<NormalizerStep>& steps, std::string& text, std::string* user_flags) {
  const size_t limit = growth_limit_bytes(text.size());
  for (const NormalizerStep& step : steps) {
    std::visit([&](const auto& kind) { apply(kind, text, user_flags, limit); }, step);
  }
}

}  // namespace plumb
