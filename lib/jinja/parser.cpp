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

void Parser::expect_body() {
  skip_operator(":");
  expect_block_end();
}

static bool is_macro_name(std::string_view name) { return name == "caller" || name == "varargs" || name == "kwargs"; }

void Parser::note_read(std::string_view name) {
  if (!is_macro_name(name)) return;
  for (OpenMacro& macro : open_macros_)
    if (std::find(macro.assigned.begin(), macro.assigned.end(), name) == macro.assigned.end())
      (name == "caller" ? macro.reads.caller : name == "varargs" ? macro.reads.varargs : macro.reads.kwargs) = true;
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
      block.back()->text = next().text;
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
  if (name == "call") return parse_call();
  if (name == "block") return parse_block_statement();
  if (name == "print") return parse_print();
  if (name == "autoescape") return parse_autoescape();
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
  if (name == "include" || name == "import" || name == "from" || name == "extends")
    syntax_error(line, "statement '{}' is not supported: a chat template is one file", name);
  syntax_error(line, "statement '{}' is not supported; supported: {}", name,
               "for, if, set, macro, call, with, filter, block, print, autoescape, break, continue, generation, raw");
}

StatementPtr Parser::parse_for() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kFor;
  statement->targets.push_back(parse_target(false));
  expect_name("in");
  statement->expressions.push_back(parse_tuple(false));
  statement->expressions.push_back(skip_name("if") ? parse_expression() : nullptr);
  statement->flag = skip_name("recursive");
  expect_body();
  ++num_open_loops_;
  statement->blocks.push_back(parse_block({"endfor", "else"}));
  --num_open_loops_;
  const bool has_else = skip_name("else");
  if (has_else) expect_body();
  statement->blocks.push_back(has_else ? parse_block({"endfor"}) : Block());
  expect_name("endfor");
  return statement;
}

StatementPtr Parser::parse_if() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kIf;
  do {
    statement->expressions.push_back(parse_tuple(false));
    expect_body();
    statement->blocks.push_back(parse_block({"elif", "else", "endif"}));
  } while (skip_name("elif"));
  if (skip_name("else")) {
    expect_body();
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
  if (current().kind != TokenKind::kBlockEnd && !is_operator(":")) fail_at_current("'=' or '%}'");
  expect_body();
  statement->blocks.push_back(parse_block({"endset"}));
  expect_name("endset");
  return statement;
}

// The parameters of a macro or call block, in parentheses.
void Parser::parse_parameters(Statement& statement) {
  expect_operator("(");
  while (!is_operator(")")) {
    if (!statement.targets.empty()) expect_operator(",");
    Target parameter;
    const int line = current().line;
    parameter.name = symbols_.make(expect_identifier());
    for (const Target& known : statement.targets)
      if (known.name == parameter.name) syntax_error(line, "parameter '{}' is given twice", *parameter.name);
    if (skip_operator("="))
      statement.expressions.push_back(parse_expression());
    else if (!statement.expressions.empty() || *parameter.name == "caller")
      fail_at_current("'=' (parameters after one with a default need one too, and so does 'caller')");
    statement.targets.push_back(std::move(parameter));
  }
  expect_operator(")");
}

void Parser::parse_macro_body(Statement& statement, std::string_view end_name) {
  expect_body();
  const int num_outer_loops = std::exchange(num_open_loops_, 0);
  open_macros_.emplace_back();
  for (const Target& parameter : statement.targets) open_macros_.back().assigned.push_back(*parameter.name);
  statement.blocks.push_back(parse_block({end_name}));
  statement.names = open_macros_.back().reads;
  open_macros_.pop_back();
  num_open_loops_ = num_outer_loops;
  expect_name(end_name);
}

StatementPtr Parser::parse_macro() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kMacro;
  statement->name = symbols_.make(expect_identifier());
  parse_parameters(*statement);
  parse_macro_body(*statement, "endmacro");
  return statement;
}

StatementPtr Parser::parse_call() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kCall;
  statement->name = symbols_.make("caller");
  if (is_operator("(")) parse_parameters(*statement);
  statement->call = parse_expression();
  if (statement->call->kind != ExpressionKind::kCall) syntax_error(current().line, "expected a call after 'call'");
  parse_macro_body(*statement, "endcall");
  return statement;
}

StatementPtr Parser::parse_block_statement() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kBlock;
  const int line = current().line;
  const std::string name = expect_identifier();
  if (block_names_.find(name)) syntax_error(line, "block '{}' is defined twice", name);
  block_names_.make(name);
  statement->flag = skip_name("scoped");
  if (is_name("required")) syntax_error(line, "a required block needs another template, which is not supported");
  expect_body();
  const int num_outer_loops = std::exchange(num_open_loops_, 0);
  statement->blocks.push_back(parse_block({"endblock"}));
  num_open_loops_ = num_outer_loops;
  expect_name("endblock");
  skip_name(name);
  return statement;
}

StatementPtr Parser::parse_print() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kPrint;
  while (current().kind != TokenKind::kBlockEnd) {
    if (!statement->expressions.empty()) expect_operator(",");
    statement->expressions.push_back(parse_expression());
  }
  return statement;
}

// Only without escaping, where it is a scope.
StatementPtr Parser::parse_autoescape() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kWith;
  const int line = current().line;
  const ExpressionPtr escapes = parse_expression();
  if (escapes->kind != ExpressionKind::kConstant || is_true(escapes->constant))
    syntax_error(line, "'autoescape' is supported with false alone; use the filter escape");
  expect_body();
  statement->blocks.push_back(parse_block({"endautoescape"}));
  expect_name("endautoescape");
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
  expect_body();
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
  expect_body();
  statement->blocks.push_back(parse_block({"endfilter"}));
  expect_name("endfilter");
  return statement;
}

StatementPtr Parser::parse_generation() {
  auto statement = std::make_unique<Statement>();
  statement->kind = StatementKind::kGeneration;
  has_generations_ = true;
  expect_body();
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
  const std::string name = expect_identifier();
  target.name = symbols_.make(name);
  if (is_macro_name(name))
    for (OpenMacro& macro : open_macros_) macro.assigned.push_back(name);
  for (const std::string_view word : {"true", "false", "none", "True", "False", "None"})
    if (name == word) syntax_error(line, "cannot assign to '{}'", word);
  if (name == "loop" && num_open_loops_ > 0) syntax_error(line, "cannot assign to 'loop' inside a loop");
  if (is_operator(".")) {
    if (!allows_attribute) fail_at_current("a plain name");
    next();
    target.attribute = expect_identifier();
    if (target.attribute.starts_with('_'))
      syntax_error(line, "attribute '{}' is refused: it starts with '_'", target.attribute);
  }
  return target;
}

}  // namespace plumb::jinja
