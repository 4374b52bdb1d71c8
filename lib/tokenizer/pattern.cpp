#include "lib/tokenizer/pattern.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/regex_dialect.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxExpressionBytes = 1 << 16;
constexpr size_t kJitStackStartBytes = 32 << 10;
constexpr size_t kJitStackLimitBytes = 8 << 20;
constexpr size_t kMinMatchLimit = 20'000'000;  // steps of one match, well under a second
constexpr size_t kMaxMatchLimit = 2'000'000'000;
constexpr uint32_t kDepthLimit = 100'000;  // for the interpreter, on processors without JIT
constexpr uint32_t kHeapLimitKib = 64 << 10;

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// The memory that a thread needs to run any expression.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStartBytes, kJitStackLimitBytes, nullptr);

  MatchScratch() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    pcre2_set_depth_limit(context, kDepthLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

}  // namespace

struct Pattern::Code {
  pcre2_code* code = nullptr;
  explicit Code(pcre2_code* compiled) : code(compiled) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
};

Pattern Pattern::regex(std::string_view expression, std::string_view where) {
  if (expression.size() > kMaxExpressionBytes) {
    throw_error<DataError>("{}: a regular expression of {} bytes, at most {} are allowed", where, expression.size(),
                           kMaxExpressionBytes);
  }
  const std::string translated = to_pcre2(expression, where);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Ruby's ^ and $ always match at line boundaries.
  constexpr uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options, &error,
                                   &offset, context.get());
  if (code == nullptr) {
    throw_error<DataError>("{}: the regular expression '{}' does not compile: {} (byte {} of '{}')", where, expression,
                           message_of(error), offset, translated);
  }
  Pattern pattern;
  pattern.source_ = expression;
  pattern.code_ = std::make_shared<const Code>(code);
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT, the interpreter gives the same results, slower
  return pattern;
}

Pattern Pattern::literal(std::string text, std::string_view where) {
  if (text.empty()) throw_error<DataError>("{}: an empty pattern matches nothing", where);
  Pattern pattern;
  pattern.source_ = std::move(text);
  return pattern;
}

void Pattern::find_all(std::string_view subject, std::vector<ByteRange>& matches) const {
  matches.clear();
  if (!code_) {
    for (size_t at = subject.find(source_); at != std::string_view::npos; at = subject.find(source_, at)) {
      matches.push_back({at, at + source_.size()});
      at += source_.size();
    }
    return;
  }
  thread_local MatchScratch scratch;
  // A harmless expression may scan a long text several times.
  const size_t limit = std::clamp(subject.size() * 8, kMinMatchLimit, kMaxMatchLimit);
  pcre2_set_match_limit(scratch.context, static_cast<uint32_t>(limit));
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(scratch.data);
  size_t last_end = std::string_view::npos;
  for (size_t at = 0; at <= subject.size();) {
    const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), at,
                                   PCRE2_NO_UTF_CHECK, scratch.data, scratch.context);
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) {
      throw_error<DataError>("text: byte {}: the regular expression '{}' gave up: {}", at, source_, message_of(result));
    }
    if (found[0] < at || found[1] < found[0]) {
      throw_error<DataError>("the regular expression '{}' moves the start of its match; \\K is not supported", source_);
    }
    // An empty match directly after the previous match is skipped, so that the search always advances.
    if (found[0] == found[1] && found[0] == last_end) {
      at += at < subject.size() ? code_point_at(subject, at).size_bytes : 1;
      continue;
    }
    matches.push_back({found[0], found[1]});
    at = last_end = found[1];
  }
}

void check_growth(size_t size_bytes, size_t limit_bytes) {
  if (size_bytes > limit_bytes) {
    throw_error<DataError>(
        "tokenizer.json: a text would grow to {} bytes or more, at most {} are allowed; is the file damaged?",
        size_bytes, limit_bytes);
  }
}

}  // namespace plumb
