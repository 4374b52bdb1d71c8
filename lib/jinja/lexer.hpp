// Splits a template source into tokens, with the whitespace control that transformers enables: trim_blocks and
// lstrip_blocks.
// Source: the Jinja template designer documentation, "Whitespace Control" and "Literals".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/check.hpp"

namespace plumb::jinja {

enum class TokenKind {
  kData,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // text of data, names and operators; strings are unescaped
  int64_t integer = 0;
  double number = 0;
};

template <class... Args>
[[noreturn]] void syntax_error(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw_error<DataError>("chat template: line {}: {}", line, fmt::format(format, std::forward<Args>(args)...));
}

/// The last token is kEnd. Throws DataError with the line.
std::vector<Token> tokenize(std::string_view source);

}  // namespace plumb::jinja
