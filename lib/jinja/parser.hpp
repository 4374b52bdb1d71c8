// Recursive-descent parser of a template's tokens: statements in parser.cpp, expressions in expression_parser.cpp.
// Source: the Jinja template designer documentation; precedence as in Jinja 3.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/jinja/lexer.hpp"
#include "lib/jinja/syntax.hpp"

namespace plumb::jinja {

class Parser {
 public:
  Parser(std::vector<Token> tokens, Symbols& symbols) : tokens_(std::move(tokens)), symbols_(symbols) {}

  /// Parses the whole template. Throws DataError with the line for unsupported syntax, filters or tests.
  Block parse();
  /// True once a {% generation %} was parsed.
  bool has_generations() const { return has_generations_; }

 private:
  const Token& current() const { return tokens_[at_]; }
  const Token& next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_operator(std::string_view op) const;
  bool is_name(std::string_view name) const;
  bool skip_operator(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_operator(std::string_view op);
  void expect_name(std::string_view name);
  std::string expect_identifier();
  void expect_block_end();
  void expect_body();  // the end of a tag that has a body, where Python's colon may stand
  [[noreturn]] void fail_at_current(std::string_view expected) const;

  Block parse_block(const std::vector<std::string_view>& end_names);
  StatementPtr parse_statement();
  StatementPtr parse_for();
  StatementPtr parse_if();
  StatementPtr parse_set();
  StatementPtr parse_macro();
  StatementPtr parse_call();
  StatementPtr parse_block_statement();
  StatementPtr parse_print();
  StatementPtr parse_autoescape();
  void parse_parameters(Statement& statement);
  void parse_macro_body(Statement& statement, std::string_view end_name);
  StatementPtr parse_with();
  StatementPtr parse_filter_block();
  StatementPtr parse_generation();
  Target parse_target(bool allows_attribute);
  Target parse_single_target(bool allows_attribute);

  ExpressionPtr make(ExpressionKind kind, int line) const;
  ExpressionPtr finish(ExpressionPtr expression) const;  // sets and limits its depth
  ExpressionPtr combine(ExpressionKind kind, int line, ExpressionPtr left, ExpressionPtr right = nullptr) const;

  ExpressionPtr parse_expression(bool allows_conditional = true);
  ExpressionPtr parse_tuple(bool allows_conditional, bool is_parenthesized = false);
  ExpressionPtr parse_conditional();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concatenation();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool allows_filters = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_call_of(ExpressionPtr callee);
  ExpressionPtr parse_postfix(ExpressionPtr expression);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr expression);
  ExpressionPtr parse_attribute(ExpressionPtr object);
  ExpressionPtr parse_subscript(ExpressionPtr object);
  ExpressionPtr parse_filter(ExpressionPtr input);
  ExpressionPtr parse_test(ExpressionPtr input);
  void parse_arguments(Expression& call);

  std::vector<Token> tokens_;
  Symbols& symbols_;
  size_t at_ = 0;
  int nesting_ = 0;
  int num_open_loops_ = 0;
  // A macro or call block around: the special names that it reads, and those that are its own variables.
  struct OpenMacro {
    MacroNames reads;
    std::vector<std::string> assigned;
  };
  std::vector<OpenMacro> open_macros_;
  void note_read(std::string_view name);
  Symbols block_names_;
  bool has_generations_ = false;
};

}  // namespace plumb::jinja
