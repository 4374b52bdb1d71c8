#include "lib/text/text_pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <new>

#include "lib/base/check.hpp"
#include "lib/base/log_once.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxExpressionBytes = 1 << 16;
constexpr uint32_t kDepthLimit = 100'000, kHeapLimitKib = 64 << 10;

/// Steps from one start of a match. A few scans to the end of the text are allowed.
uint32_t match_limit(size_t text_bytes) {
  return static_cast<uint32_t>(std::clamp<size_t>(32 * text_bytes, 50'000, 20'000'000));
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

/// Valid UTF-8, as PCRE2 needs it: the text itself if it is.
std::string_view valid_utf8(std::string_view text, std::string& buffer) {
  if (find_invalid_utf8(text) == std::string_view::npos) return text;
  buffer = replace_invalid_utf8(text);
  return buffer;
}

}  // namespace

struct TextPattern::Code {
  pcre2_code* code = nullptr;
  explicit Code(pcre2_code* compiled) : code(compiled) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  using MatchData = std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)>;
  using MatchContext = std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)>;

  MatchData match_data() const {
    MatchData data(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free);
    if (!data) throw std::bad_alloc();
    return data;
  }
  /// pcre2_match() from `at` on, bounded.
  int match(std::string_view text, size_t at, uint32_t options, pcre2_match_data* data) const {
    const MatchContext context(pcre2_match_context_create(nullptr), pcre2_match_context_free);
    if (!context) throw std::bad_alloc();
    pcre2_set_match_limit(context.get(), match_limit(text.size()));
    pcre2_set_depth_limit(context.get(), kDepthLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, options | PCRE2_NO_UTF_CHECK,
                       data, context.get());
  }
};

TextPattern::TextPattern(std::string_view expression, std::string_view option)
    : option_(option), expression_(expression) {
  if (expression.empty()) throw_error<UsageError>("{}: expected a regular expression", option);
  if (expression.size() > kMaxExpressionBytes)
    throw_error<UsageError>("{}: a regular expression of {} bytes, at most {} are allowed", option, expression.size(),
                            kMaxExpressionBytes);
  if (find_invalid_utf8(expression) != std::string_view::npos)
    throw_error<UsageError>("{}: the regular expression is not valid UTF-8", option);
  int error = 0;
  PCRE2_SIZE offset = 0;
  constexpr uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL | PCRE2_NEVER_BACKSLASH_C;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), options, &error,
                                   &offset, nullptr);
  if (code == nullptr)
    throw_error<UsageError>("{}: the regular expression '{}' does not compile: {} (byte {})", option, expression,
                            message_of(error), offset);
  code_ = std::make_shared<const Code>(code);
}

bool TextPattern::matches(std::string_view text) const {
  std::string buffer;
  const Code::MatchData data = code_->match_data();
  const int result = code_->match(valid_utf8(text, buffer), 0, PCRE2_ANCHORED | PCRE2_ENDANCHORED, data.get());
  if (result < 0 && result != PCRE2_ERROR_NOMATCH)
    log_info_once(fmt::format("{}: '{}' gave up on a text ({}), which counts as no match; simplify the expression",
                              option_, expression_, message_of(result)));
  return result >= 0;
}

bool TextPattern::is_found_in(std::string_view text) const { return last_in(text).has_value(); }

std::optional<std::string> TextPattern::last_in(std::string_view text) const {
  std::string buffer;
  const std::string_view subject = valid_utf8(text, buffer);
  const Code::MatchData data = code_->match_data();
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
  std::optional<std::string> last;
  for (size_t at = 0; at <= subject.size();) {
    const int result = code_->match(subject, at, 0, data.get());
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0 || found[0] < at || found[1] < found[0]) {
      log_info_once(fmt::format("{}: '{}' gave up on a text ({}), which counts as no match; simplify the expression",
                                option_, expression_,
                                result < 0 ? message_of(result) : "\\K moves the start of the match"));
      return std::nullopt;
    }
    const size_t group = pcre2_get_ovector_count(data.get()) > 1 ? 1 : 0;
    const bool is_set = result > static_cast<int>(group) && found[2 * group] != PCRE2_UNSET;
    last = is_set ? std::string(subject.substr(found[2 * group], found[2 * group + 1] - found[2 * group])) : "";
    // after an empty match the search continues after the next character
    if (found[1] > found[0]) {
      at = found[1];
    } else {
      at = found[1] + (found[1] < subject.size() ? code_point_at(subject, found[1]).size_bytes : 1);
    }
  }
  return last;
}

}  // namespace plumb
