// Counts the recursion of the parser while it lives: hostile nesting ends in an error, not in a stack overflow.
#pragma once

#include "lib/jinja/parser.hpp"

namespace plumb::jinja {

constexpr int kMaxNesting = 150;

class Parser::Nesting {
 public:
  explicit Nesting(Parser& parser) : parser_(parser) {
    if (++parser_.nesting_ > kMaxNesting) {
      --parser_.nesting_;  // no destructor runs
      syntax_error(parser_.current().line, "nested deeper than {} levels", kMaxNesting);
    }
  }
  ~Nesting() { --parser_.nesting_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  Parser& parser_;
};

}  // namespace plumb::jinja
