#include "lib/jinja/parser.hpp"

#include <algorithm>

#include "lib/jinja/nesting.hpp"

namespace plumb::jinja {

bool Parser::is_operator(std::string_view op) const {
  return current().kind == TokenKind::kOperator && current().text == op;
}

bool Parser::is_name(std::string_view name) const {
  return current().kind == TokenKind::kName && current().text == name;
}

bool Parser::skip_operator(std::string_view op) {
  if (!is_operator(op)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

void Parser::expect_operator(std::string_view op) {
  if (!skip_operator(op)) fail_at_current(fmt::format("'{}'", op));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_at_current(fmt::format("'{}'", name));
}

std::string Parser::expect_identifier() {
  if (current().kind != TokenKind::kName) fail_at_current("a name");
  const std::string& name = current().text;
  if (name.starts_with("__")) syntax_error(current().line, "name '{}' is refused: it starts with '__'", name);
  return next().text;
}

void Parser::expect_block_end() {
  if (current().kind != TokenKind::kBlockEnd) fail_at_current("the end of the tag, '%}'");
  next();
}

void Parser::fail_at_current(std::string_view expected) const {
  const auto found = [&]() -> std::string {
    switch (current().kind) {
      case TokenKind::kData:
        return "text";
      case TokenKind::kPrintBegin:
        return "'{{'";
      case TokenKind::kPrintEnd:
        return "the end of the expression, '}}'";
      case TokenKind::kBlockBegin:
        return "'{%'";
      case TokenKind::kBlockEnd:
        return "the end of the tag, '%}'";
      case TokenKind::kName:
      case TokenKind::kOperator:
        return fmt::format("'{}'", current().text);
      case TokenKind::kString:
        return "a string";
      case TokenKind::kInteger:
      case TokenKind::kFloat:
        return "a number";
      case TokenKind::kEnd:
        return "the end of the template";
    }
    return "";
  };
  syntax_error(current().line, "expected {}, found {}", expected, found());
}

Block Parser::parse() {
  Block block = parse_block({});
  check(current().kind == TokenKind::kEnd, "jinja: the parser stopped before the end");
  return block;
}

// Parses statements up to a tag that starts with one of end_names (it stays current), or to the end of the template.
Block Parser::parse_block(const std::vector<std::string_view>& end_names) {
  const Nesting nesting(nesting_, current().line);
  Block block;
  while (current().kind != TokenKind::kEnd) {
    const int line = current().line;
    if (current().kind == TokenKind::kData) {
      block.push_back(std::make_unique<Statement>());
      block.back()->line = line;
      block.back()->name = next().text;
    } else if (current().kind == TokenKind::kPrintBegin) {
      next();
      block.push_back(std::make_unique<Statement>());
      block.back()->kind = StatementKind::kPrint;
      block.back()->line = line;
      block.back()->expressions.push_back(parse_tuple(true));
      if (current().kind != TokenKind::kPrintEnd) fail_at_current("an operator or '}}'");
      next();
    } else {
      next();
      if (std::any_of(end_names.begin(), end_names.end(), [&](std::string_view name) { return is_name(name); }))
        return block;
      block.push_back(parse_statement());
      block.back()->line = line;
      expect_block_end();
    }
  }
  if (!end_names.empty()) fail_at_current(fmt::format("'{{% {} %}}'", fmt::join(end_names, " %}' or '{% ")));
  return block;
}

StatementPtr Parser::parse_statement() {
  if (current().kind != TokenKind::kName) fail_at_current("the name of a statement");
  const int line = current().line;
  const std::string name = next().text;
  if (name == "for") return parse_for();
  if (name == "if") return parse_if();
  if (name == "set") return parse_set();
  if (name == "macro") return parse_macro();
  if (name == "with") return parse_with();
  if (name == "filter") return parse_filter_block();
  if (name == "generation") return parse_generation();
  if (name == "break" || name == "continue") {
    if (num_open_loops_ == 0) syntax_error(line, "'{}' outside a loop", name);
    auto statement = std::make_unique<Statement>();
    statement->kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
    return statement;
  }
  if (name.starts_with("end") || name == "else" || name == "elif")
    syntax_error(line, "'{}' without the statement it belongs to", name);
  syntax_error(
      line,
      "statement '{}' is not supported; supported: for, if, set, macro, with, filter, break, continue, generation, raw",
      name);
}

StatementPtr Parser::parse_for() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kFor;
  statement->targets.push_back(parse_target(false));
  expect_name("in");
  statement->expressions.push_back(parse_tuple(false));
  statement->expressions.push_back(skip_name("if") ? parse_expression() : nullptr);
  if (is_name("recursive")) syntax_error(current().line, "recursive loops are not supported; use a macro");
  expect_block_end();
  ++num_open_loops_;
  statement->blocks.push_back(parse_block({"endfor", "else"}));
  --num_open_loops_;
  const bool has_else = skip_name("else");
  if (has_else) expect_block_end();
  statement->blocks.push_back(has_else ? parse_block({"endfor"}) : Block());
  expect_name("endfor");
  return statement;
}

StatementPtr Parser::parse_if() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kIf;
  do {
    statement->expressions.push_back(parse_tuple(false));
    expect_block_end();
    statement->blocks.push_back(parse_block({"elif", "else", "endif"}));
  } while (skip_name("elif"));
  if (skip_name("else")) {
    expect_block_end();
    statement->blocks.push_back(parse_block({"endif"}));
  }
  expect_name("endif");
  return statement;
}

StatementPtr Parser::parse_set() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kSet;
  statement->targets.push_back(parse_target(true));
  if (skip_operator("=")) {
    statement->expressions.push_back(parse_tuple(true));
    return statement;
  }
  statement->kind = StatementKind::kSetBlock;
  ExpressionPtr filters;
  while (is_operator("|")) {
    if (!filters) filters = make(ExpressionKind::kBlockText, current().line);
    next();
    filters = parse_filter(std::move(filters));
  }
  statement->expressions.push_back(std::move(filters));
  if (current().kind != TokenKind::kBlockEnd) fail_at_current("'=' or '%}'");
  next();
  statement->blocks.push_back(parse_block({"endset"}));
  expect_name("endset");
  return statement;
}

StatementPtr Parser::parse_macro() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kMacro;
  statement->name = expect_identifier();
  expect_operator("(");
  while (!is_operator(")")) {
    if (!statement->targets.empty()) expect_operator(",");
    Target parameter;
    parameter.name = expect_identifier();
    statement->targets.push_back(std::move(parameter));
    if (skip_operator("="))
      statement->expressions.push_back(parse_expression());
    else if (!statement->expressions.empty())
      fail_at_current("'=' (parameters after one with a default need one too)");
  }
  expect_operator(")");
  expect_block_end();
  const int num_outer_loops = std::exchange(num_open_loops_, 0);
  ++num_open_macros_;
  statement->blocks.push_back(parse_block({"endmacro"}));
  --num_open_macros_;
  num_open_loops_ = num_outer_loops;
  expect_name("endmacro");
  return statement;
}

StatementPtr Parser::parse_with() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kWith;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!statement->targets.empty()) expect_operator(",");
    statement->targets.push_back(parse_single_target(false));
    expect_operator("=");
    statement->expressions.push_back(parse_expression());
  }
  expect_block_end();
  statement->blocks.push_back(parse_block({"endwith"}));
  expect_name("endwith");
  return statement;
}

StatementPtr Parser::parse_filter_block() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kFilter;
  ExpressionPtr filters = parse_filter(make(ExpressionKind::kBlockText, current().line));
  while (skip_operator("|")) filters = parse_filter(std::move(filters));
  statement->expressions.push_back(std::move(filters));
  expect_block_end();
  statement->blocks.push_back(parse_block({"endfilter"}));
  expect_name("endfilter");
  return statement;
}

StatementPtr Parser::parse_generation() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kGeneration;
  has_generations_ = true;
  expect_block_end();
  const int num_outer_loops = std::exchange(num_open_loops_, 0);
  statement->blocks.push_back(parse_block({"endgeneration"}));
  num_open_loops_ = num_outer_loops;
  expect_name("endgeneration");
  return statement;
}

Target Parser::parse_target(bool allows_attribute) {
  Target first = parse_single_target(allows_attribute);
  if (!is_operator(",")) return first;
  Target tuple;
  tuple.is_tuple = true;
  tuple.parts.push_back(std::move(first));
  while (skip_operator(",")) {
    if (is_name("in") || is_operator("=") || is_operator(")")) break;
    tuple.parts.push_back(parse_single_target(allows_attribute));
  }
  return tuple;
}

Target Parser::parse_single_target(bool allows_attribute) {
  const Nesting nesting(nesting_, current().line);
  if (skip_operator("(")) {
    Target target = parse_target(allows_attribute);
    expect_operator(")");
    return target;
  }
  Target target;
  const int line = current().line;
  target.name = expect_identifier();
  for (const std::string_view word : {"true", "false", "none", "True", "False", "None"})
    if (target.name == word) syntax_error(line, "cannot assign to '{}'", word);
  if (target.name == "loop" && num_open_loops_ > 0) syntax_error(line, "cannot assign to 'loop' inside a loop");
  if (is_operator(".")) {
    if (!allows_attribute) fail_at_current("a plain name");
    next();
    target.attribute = expect_identifier();
  }
  return target;
}

}  // namespace plumb::jinja
