// Limits the recursion of the parser: hostile nesting ends in an error, not in a stack overflow.
#pragma once

#include "lib/jinja/lexer.hpp"

namespace plumb::jinja {

constexpr int kMaxNesting = 150;

/// Counts one level in `depth` during its lifetime. Throws DataError with `line` beyond kMaxNesting.
class Nesting {
 public:
  Nesting(int& depth, int line) : depth_(depth) {
    if (depth_ >= kMaxNesting) syntax_error(line, "nested deeper than {} levels", kMaxNesting);
    ++depth_;
  }
  ~Nesting() { --depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int& depth_;
};

}  // namespace plumb::jinja
