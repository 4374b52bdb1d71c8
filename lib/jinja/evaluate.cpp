#include "lib/jinja/filters.hpp"
#include "lib/jinja/interpreter.hpp"
#include "lib/jinja/is_tests.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {

const Value& Interpreter::evaluate(const Expression& expression, const ScopePtr& scope, Value& made) {
  if (expression.kind == ExpressionKind::kConstant) return expression.constant;
  if (expression.kind == ExpressionKind::kName)
    if (const Value* found = look_up(expression.symbol, scope)) return *found;
  made = evaluate(expression, scope);
  return made;
}

Value Interpreter::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Runtime::RecursionGuard guard(runtime_);
  runtime_.line = expression.line;
  runtime_.charge(1);
  const auto part = [&](size_t i) { return evaluate(*expression.parts[i], scope); };
  Value made[2];
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.constant;
    case ExpressionKind::kName:
      if (const Value* found = look_up(expression.symbol, scope)) return *found;
      return Value(expression.missing);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
    case ExpressionKind::kDict:
      return evaluate_container(expression, scope);
    case ExpressionKind::kAttribute:
      return get_attribute(runtime_, evaluate(*expression.parts[0], scope, made[0]), expression.name,
                           &expression.missing);
    case ExpressionKind::kItem: {
      const Value& object = evaluate(*expression.parts[0], scope, made[0]);
      return get_item(runtime_, object, evaluate(*expression.parts[1], scope, made[1]));
    }
    case ExpressionKind::kSlice:
      return evaluate_slice(expression, scope);
    case ExpressionKind::kCall:
      return evaluate_call(expression, scope);
    case ExpressionKind::kFilter:
      return evaluate_filter(expression, scope);
    case ExpressionKind::kTest: {
      const Value value = part(0);
      return Value(apply_test(runtime_, *expression.test, value, evaluate_arguments(expression, scope)));
    }
    case ExpressionKind::kNot:
      return Value(!is_true(evaluate(*expression.parts[0], scope, made[0])));
    case ExpressionKind::kNegative:
      return negative(runtime_, part(0));
    case ExpressionKind::kPositive:
      return negative(runtime_, negative(runtime_, part(0)));
    case ExpressionKind::kBinary: {
      Value left = part(0);
      return apply_operator(runtime_, expression.operators[0], std::move(left),
                            evaluate(*expression.parts[1], scope, made[1]));
    }
    case ExpressionKind::kCompare:
      return evaluate_compare(expression, scope);
    case ExpressionKind::kConcatenate:
      return evaluate_concatenation(expression, scope);
    case ExpressionKind::kAnd:
    case ExpressionKind::kOr: {
      Value left = part(0);
      return is_true(left) == (expression.kind == ExpressionKind::kAnd) ? part(1) : left;
    }
    case ExpressionKind::kConditional:
      return evaluate_conditional(expression, scope);
    case ExpressionKind::kBlockText:
      return block_text_;
  }
  return Value();
}

Value Interpreter::evaluate_container(const Expression& expression, const ScopePtr& scope) {
  std::vector<Value> values;
  values.reserve(expression.parts.size());
  for (const ExpressionPtr& part : expression.parts) values.push_back(evaluate(*part, scope));
  if (expression.kind != ExpressionKind::kDict)
    return runtime_.make_sequence(
        std::move(values), expression.kind == ExpressionKind::kTuple ? SequenceKind::kTuple : SequenceKind::kList);
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i + 1 < values.size(); i += 2)
    entries.emplace_back(std::move(values[i]), std::move(values[i + 1]));
  return runtime_.make_dict(std::move(entries));
}

Value Interpreter::evaluate_slice(const Expression& expression, const ScopePtr& scope) {
  const Value object = evaluate(*expression.parts[0], scope);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i)
    if (const ExpressionPtr& bound = expression.parts[i + 1]) bounds[i] = evaluate(*bound, scope);
  return get_slice(runtime_, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::evaluate_compare(const Expression& expression, const ScopePtr& scope) {
  Value made[2];
  const Value* left = &evaluate(*expression.parts[0], scope, made[0]);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    const Value& right = evaluate(*expression.parts[i + 1], scope, made[(i + 1) % 2]);
    if (!compare(runtime_, expression.operators[i], *left, right)) return Value(false);
    left = &right;
  }
  return Value(true);
}

Value Interpreter::evaluate_concatenation(const Expression& expression, const ScopePtr& scope) {
  Text out;
  for (const ExpressionPtr& part : expression.parts) {
    Value made;
    print(evaluate(*part, scope, made), out);
  }
  return Runtime::wrap_text(std::move(out));
}

Value Interpreter::evaluate_conditional(const Expression& expression, const ScopePtr& scope) {
  if (is_true(evaluate(*expression.parts[0], scope))) return evaluate(*expression.parts[1], scope);
  if (expression.parts[2]) return evaluate(*expression.parts[2], scope);
  return Runtime::make_undefined("the inline if was false and has no else");
}

Arguments Interpreter::evaluate_arguments(const Expression& expression, const ScopePtr& scope) {
  Arguments arguments;
  for (size_t i = 1; i < expression.parts.size(); ++i)
    arguments.positional.push_back(evaluate(*expression.parts[i], scope));
  if (expression.more_parts)
    for (Value& value : iterate(runtime_, evaluate(*expression.more_parts, scope)))
      arguments.positional.push_back(std::move(value));
  for (const auto& [name, part] : expression.keywords) arguments.named.emplace_back(name, evaluate(*part, scope));
  if (!expression.more_keywords) return arguments;
  const Value more = evaluate(*expression.more_keywords, scope);
  if (!more.dict()) runtime_.fail("'**' needs a dict, not {}", type_name(more));
  for (const auto& [key, value] : more.dict()->entries) {
    if (!key.text()) runtime_.fail("'**' needs a dict with keys of type str, found {}", type_name(key));
    runtime_.charge(static_cast<int64_t>(arguments.named.size() / 16) + 1);
    if (arguments.find(SIZE_MAX, key.text()->bytes)) runtime_.fail("argument '{}' is given twice", key.text()->bytes);
    arguments.named.emplace_back(key.text()->bytes, value);
  }
  return arguments;
}

Value Interpreter::evaluate_filter(const Expression& expression, const ScopePtr& scope) {
  const Value input = evaluate(*expression.parts[0], scope);
  const Arguments arguments = evaluate_arguments(expression, scope);
  runtime_.line = expression.line;
  return apply_filter(runtime_, *expression.filter, input, arguments);
}

}  // namespace plumb::jinja
