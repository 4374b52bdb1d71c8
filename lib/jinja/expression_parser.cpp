#include <algorithm>
#include <array>

#include "lib/jinja/filters.hpp"
#include "lib/jinja/is_tests.hpp"
#include "lib/jinja/nesting.hpp"
#include "lib/jinja/parser.hpp"

namespace plumb::jinja {

ExpressionPtr Parser::make(ExpressionKind kind, int line) const {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->line = line;
  return expression;
}

ExpressionPtr Parser::finish(ExpressionPtr expression) const {
  for (const ExpressionPtr& part : expression->parts)
    if (part) expression->depth = std::max(expression->depth, part->depth + 1);
  for (const auto& [name, part] : expression->keywords)
    expression->depth = std::max(expression->depth, part->depth + 1);
  for (const ExpressionPtr* part : {&expression->more_parts, &expression->more_keywords})
    if (*part) expression->depth = std::max(expression->depth, (*part)->depth + 1);
  if (expression->depth > kMaxNesting)
    syntax_error(expression->line, "expression is deeper than {} levels", kMaxNesting);
  return expression;
}

ExpressionPtr Parser::combine(ExpressionKind kind, int line, ExpressionPtr left, ExpressionPtr right) const {
  ExpressionPtr expression = make(kind, line);
  expression->parts.push_back(std::move(left));
  if (right) expression->parts.push_back(std::move(right));
  return finish(std::move(expression));
}

ExpressionPtr Parser::parse_expression(bool allows_conditional) {
  const Nesting nesting(nesting_, current().line);
  return allows_conditional ? parse_conditional() : parse_or();
}

// One expression, or several separated by commas: a tuple without parentheses.
ExpressionPtr Parser::parse_tuple(bool allows_conditional, bool is_parenthesized) {
  const auto is_end = [&] {
    return current().kind == TokenKind::kPrintEnd || current().kind == TokenKind::kBlockEnd || is_operator(")");
  };
  const int line = current().line;
  ExpressionPtr tuple = make(ExpressionKind::kTuple, line);
  bool has_comma = false;
  while (!is_end()) {
    tuple->parts.push_back(parse_expression(allows_conditional));
    if (!skip_operator(",")) break;
    has_comma = true;
  }
  if (!has_comma && tuple->parts.size() == 1) return std::move(tuple->parts[0]);
  if (tuple->parts.empty() && !is_parenthesized) fail_at_current("an expression");
  return finish(std::move(tuple));
}

ExpressionPtr Parser::parse_conditional() {
  ExpressionPtr expression = parse_or();
  while (is_name("if")) {
    const Nesting nesting(nesting_, current().line);
    ExpressionPtr conditional = make(ExpressionKind::kConditional, next().line);
    conditional->parts.push_back(parse_or());
    conditional->parts.push_back(std::move(expression));
    conditional->parts.push_back(skip_name("else") ? parse_conditional() : nullptr);
    expression = finish(std::move(conditional));
  }
  return expression;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (is_name("or")) {
    const int line = next().line;
    left = combine(ExpressionKind::kOr, line, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (is_name("and")) {
    const int line = next().line;
    left = combine(ExpressionKind::kAnd, line, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Nesting nesting(nesting_, current().line);
  const int line = next().line;
  return combine(ExpressionKind::kNot, line, parse_not());
}

ExpressionPtr Parser::parse_compare() {
  static constexpr std::array<std::pair<std::string_view, Operator>, 6> kComparisons = {
      {{"==", Operator::kEqual},
       {"!=", Operator::kNotEqual},
       {"<", Operator::kLess},
       {"<=", Operator::kLessEqual},
       {">", Operator::kGreater},
       {">=", Operator::kGreaterEqual}}};
  ExpressionPtr compare = make(ExpressionKind::kCompare, current().line);
  compare->parts.push_back(parse_sum());
  while (true) {
    const auto* found = std::find_if(kComparisons.begin(), kComparisons.end(),
                                     [&](const auto& pair) { return is_operator(pair.first); });
    if (found != kComparisons.end()) {
      compare->operators.push_back(found->second);
    } else if (is_name("in")) {
      compare->operators.push_back(Operator::kIn);
    } else if (is_name("not") && tokens_[at_ + 1].kind == TokenKind::kName && tokens_[at_ + 1].text == "in") {
      compare->operators.push_back(Operator::kNotIn);
      next();
    } else {
      break;
    }
    next();
    compare->parts.push_back(parse_sum());
  }
  return compare->operators.empty() ? std::move(compare->parts[0]) : finish(std::move(compare));
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concatenation();
  while (is_operator("+") || is_operator("-")) {
    const Operator op = is_operator("+") ? Operator::kAdd : Operator::kSubtract;
    const int line = next().line;
    left = combine(ExpressionKind::kBinary, line, std::move(left), parse_concatenation());
    left->operators = {op};
  }
  return left;
}

ExpressionPtr Parser::parse_concatenation() {
  ExpressionPtr whole = make(ExpressionKind::kConcatenate, current().line);
  do whole->parts.push_back(parse_product());
  while (skip_operator("~"));
  return whole->parts.size() == 1 ? std::move(whole->parts[0]) : finish(std::move(whole));
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr left = parse_power();
  while (is_operator("*") || is_operator("/") || is_operator("//") || is_operator("%")) {
    const Operator op = is_operator("*")    ? Operator::kMultiply
                        : is_operator("/")  ? Operator::kDivide
                        : is_operator("//") ? Operator::kFloorDivide
                                            : Operator::kModulo;
    const int line = next().line;
    left = combine(ExpressionKind::kBinary, line, std::move(left), parse_power());
    left->operators = {op};
  }
  return left;
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary();
  while (is_operator("**")) {  // left-associative in Jinja, unlike Python
    const int line = next().line;
    left = combine(ExpressionKind::kBinary, line, std::move(left), parse_unary());
    left->operators = {Operator::kPower};
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool allows_filters) {
  const Nesting nesting(nesting_, current().line);
  const int line = current().line;
  ExpressionPtr expression;
  if (skip_operator("-"))
    expression = combine(ExpressionKind::kNegative, line, parse_unary(false));
  else if (skip_operator("+"))
    expression = combine(ExpressionKind::kPositive, line, parse_unary(false));
  else
    expression = parse_primary();
  expression = parse_postfix(std::move(expression));
  return allows_filters ? parse_filters_and_tests(std::move(expression)) : std::move(expression);
}

ExpressionPtr Parser::parse_primary() {
  const Token& token = current();
  ExpressionPtr constant = make(ExpressionKind::kConstant, token.line);
  switch (token.kind) {
    case TokenKind::kName: {
      const std::string name = expect_identifier();
      if (name == "true" || name == "True") {
        constant->constant = Value(true);
      } else if (name == "false" || name == "False") {
        constant->constant = Value(false);
      } else if (name != "none" && name != "None") {
        if (name == "self" || name == "super")
          syntax_error(token.line, "'{}' is not supported: there are no other templates to inherit from", name);
        note_read(name);
        constant->kind = ExpressionKind::kName;
        constant->symbol = symbols_.make(name);
        constant->missing.what = std::make_shared<const std::string>(fmt::format("'{}' is undefined", name));
      }
      return constant;
    }
    case TokenKind::kString: {
      Text text;
      while (current().kind == TokenKind::kString) text.append(next().text);  // adjacent strings are concatenated
      constant->constant = Value(std::shared_ptr<const Text>(std::make_shared<Text>(std::move(text))));
      return constant;
    }
    case TokenKind::kInteger:
      constant->constant = Value(next().integer);
      return constant;
    case TokenKind::kFloat:
      constant->constant = Value(next().number);
      return constant;
    default:
      break;
  }
  if (is_operator("[")) return parse_list();
  if (is_operator("{")) return parse_dict();
  if (skip_operator("(")) {
    ExpressionPtr inner = parse_tuple(true, true);
    expect_operator(")");
    return inner;
  }
  fail_at_current("an expression");
}

ExpressionPtr Parser::parse_list() {
  ExpressionPtr list = make(ExpressionKind::kList, current().line);
  expect_operator("[");
  while (!is_operator("]")) {
    if (!list->parts.empty()) expect_operator(",");
    if (is_operator("]")) break;
    list->parts.push_back(parse_expression());
  }
  expect_operator("]");
  return finish(std::move(list));
}

ExpressionPtr Parser::parse_dict() {
  ExpressionPtr dict = make(ExpressionKind::kDict, current().line);
  expect_operator("{");
  while (!is_operator("}")) {
    if (!dict->parts.empty()) expect_operator(",");
    if (is_operator("}")) break;
    dict->parts.push_back(parse_expression());
    expect_operator(":");
    dict->parts.push_back(parse_expression());
  }
  expect_operator("}");
  return finish(std::move(dict));
}

ExpressionPtr Parser::parse_call_of(ExpressionPtr callee) {
  ExpressionPtr call = make(ExpressionKind::kCall, current().line);
  call->parts.push_back(std::move(callee));
  parse_arguments(*call);
  return finish(std::move(call));
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr expression) {
  while (true) {
    if (is_operator(".")) {
      expression = parse_attribute(std::move(expression));
    } else if (is_operator("[")) {
      expression = parse_subscript(std::move(expression));
    } else if (is_operator("(")) {
      expression = parse_call_of(std::move(expression));
    } else {
      return expression;
    }
  }
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr expression) {
  while (true) {
    if (skip_operator("|"))
      expression = parse_filter(std::move(expression));
    else if (skip_name("is"))
      expression = parse_test(std::move(expression));
    else if (is_operator("("))
      expression = parse_call_of(std::move(expression));
    else
      return expression;
  }
}

ExpressionPtr Parser::parse_attribute(ExpressionPtr object) {
  expect_operator(".");
  const int line = current().line;
  if (current().kind == TokenKind::kInteger) {
    ExpressionPtr index = make(ExpressionKind::kConstant, line);
    index->constant = Value(next().integer);
    return combine(ExpressionKind::kItem, line, std::move(object), std::move(index));
  }
  if (current().kind != TokenKind::kName) fail_at_current("the name of an attribute");
  const std::string& name = next().text;
  if (name.starts_with('_')) syntax_error(line, "attribute '{}' is refused: it starts with '_'", name);
  ExpressionPtr attribute = combine(ExpressionKind::kAttribute, line, std::move(object));
  attribute->name = name;
  attribute->missing.what = std::make_shared<const std::string>(fmt::format("dict has no attribute '{}'", name));
  return attribute;
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr object) {
  const int line = current().line;
  expect_operator("[");
  if (is_operator("]")) fail_at_current("an index or slice");
  ExpressionPtr first = is_operator(":") ? nullptr : parse_expression();
  if (!is_operator(":")) {
    if (is_operator(",")) {
      ExpressionPtr key = make(ExpressionKind::kTuple, line);
      key->parts.push_back(std::move(first));
      while (skip_operator(",")) key->parts.push_back(parse_expression());
      first = finish(std::move(key));
    }
    expect_operator("]");
    return combine(ExpressionKind::kItem, line, std::move(object), std::move(first));
  }
  ExpressionPtr slice = make(ExpressionKind::kSlice, line);
  slice->parts.push_back(std::move(object));
  slice->parts.push_back(std::move(first));
  next();
  slice->parts.push_back(is_operator(":") || is_operator("]") ? nullptr : parse_expression());
  slice->parts.push_back(skip_operator(":") && !is_operator("]") ? parse_expression() : nullptr);
  expect_operator("]");
  return finish(std::move(slice));
}

// Parses the name and the arguments of a filter, after `|`.
ExpressionPtr Parser::parse_filter(ExpressionPtr input) {
  const int line = current().line;
  const std::string name = expect_identifier();
  ExpressionPtr expression = make(ExpressionKind::kFilter, line);
  expression->filter = find_filter(name);
  if (!expression->filter) syntax_error(line, "{}", missing_filter(name));
  expression->parts.push_back(std::move(input));
  if (is_operator("(")) parse_arguments(*expression);
  return finish(std::move(expression));
}

// Parses a test, after `is`: an optional `not`, the name, and arguments in parentheses or one without.
ExpressionPtr Parser::parse_test(ExpressionPtr input) {
  const int line = current().line;
  const bool is_negated = skip_name("not");
  if (current().kind != TokenKind::kName) fail_at_current("the name of a test");
  const std::string name = next().text;
  ExpressionPtr expression = make(ExpressionKind::kTest, line);
  expression->test = find_test(name);
  if (!expression->test)
    syntax_error(line, "test '{}' is not supported; supported: {}", name, fmt::join(test_names(), ", "));
  expression->parts.push_back(std::move(input));
  const TokenKind kind = current().kind;
  const bool starts_argument = (kind == TokenKind::kName && !is_name("else") && !is_name("or") && !is_name("and")) ||
                               kind == TokenKind::kString || kind == TokenKind::kInteger || kind == TokenKind::kFloat ||
                               is_operator("[") || is_operator("{");
  if (is_operator("(")) {
    parse_arguments(*expression);
  } else if (starts_argument) {
    const Nesting nesting(nesting_, current().line);
    if (is_name("is")) syntax_error(line, "tests cannot be chained with 'is'; use 'and'");
    expression->parts.push_back(parse_postfix(parse_primary()));
  }
  expression = finish(std::move(expression));
  return is_negated ? combine(ExpressionKind::kNot, line, std::move(expression)) : std::move(expression);
}

void Parser::parse_arguments(Expression& call) {
  expect_operator("(");
  bool is_first = true;
  while (!is_operator(")")) {
    if (!std::exchange(is_first, false)) {
      expect_operator(",");
      if (is_operator(")")) break;
    }
    if (is_operator("*") || is_operator("**")) {
      ExpressionPtr& more = is_operator("*") ? call.more_parts : call.more_keywords;
      if (more || call.more_keywords) fail_at_current("')'");
      next();
      more = parse_expression();
      continue;
    }
    const Token& following = tokens_[std::min(at_ + 1, tokens_.size() - 1)];
    if (current().kind == TokenKind::kName && following.kind == TokenKind::kOperator && following.text == "=") {
      if (call.more_keywords) fail_at_current("')'");
      const std::string name = expect_identifier();
      next();
      for (const auto& [known, value] : call.keywords)
        if (known == name) syntax_error(current().line, "argument '{}' is given twice", name);
      call.keywords.emplace_back(name, parse_expression());
    } else {
      if (call.more_parts || call.more_keywords || !call.keywords.empty())
        fail_at_current("a keyword argument, as the one before");
      call.parts.push_back(parse_expression());
    }
  }
  expect_operator(")");
}

}  // namespace plumb::jinja
