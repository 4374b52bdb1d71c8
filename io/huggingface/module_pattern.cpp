#include "io/huggingface/module_pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <new>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxExpressionBytes = 1 << 14;
constexpr uint32_t kHeapLimitKib = 16 << 10;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

std::string quoted(std::string_view expression) {
  constexpr size_t kMaxQuotedBytes = 120;
  if (expression.size() <= kMaxQuotedBytes) return fmt::format("'{}'", expression);
  return fmt::format("'{}...'", expression.substr(0, kMaxQuotedBytes));
}

}  // namespace

struct ModulePattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;

  Code() = default;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
  }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

ModulePattern::ModulePattern(std::string_view expression, std::string_view where, uint32_t max_steps)
    : expression_(expression), where_(where) {
  if (expression.size() > kMaxExpressionBytes)
    throw_error<DataError>("{}: expected a regular expression of at most {} bytes, got {}", where, kMaxExpressionBytes,
                           expression.size());
  const auto compiled = std::make_shared<Code>();
  int error = 0;
  PCRE2_SIZE offset = 0;
  constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_ANCHORED | PCRE2_ENDANCHORED;
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(), kOptions, &error,
                                 &offset, nullptr);
  if (compiled->code == nullptr)
    throw_error<DataError>("{}: expected a regular expression, got {}: {} at byte {}", where, quoted(expression),
                           message_of(error), offset);
  compiled->data = pcre2_match_data_create(1, nullptr);
  compiled->context = pcre2_match_context_create(nullptr);
  if (compiled->data == nullptr || compiled->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(compiled->context, max_steps);
  pcre2_set_heap_limit(compiled->context, kHeapLimitKib);
  code_ = compiled;
}

bool ModulePattern::matches(std::string_view name) const {
  const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0, code_->data,
                                 code_->context);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    throw_error<DataError>("{}: the regular expression {} gave up on '{}': {}; write it more simply", where_,
                           quoted(expression_), name, message_of(result));
  return true;
}

}  // namespace plumb
