#include "lib/jinja/filters.hpp"
#include "lib/jinja/interpreter.hpp"
#include "lib/jinja/is_tests.hpp"
#include "lib/jinja/methods.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {

Value Interpreter::evaluate(const Expression& expression, const ScopePtr& scope) {
  const Runtime::RecursionGuard guard(runtime_);
  runtime_.line = expression.line;
  runtime_.charge(1);
  const auto part = [&](size_t i) { return evaluate(*expression.parts[i], scope); };
  switch (expression.kind) {
    case ExpressionKind::kConstant:
      return expression.constant;
    case ExpressionKind::kName:
      return evaluate_name(expression, scope);
    case ExpressionKind::kList:
    case ExpressionKind::kTuple:
    case ExpressionKind::kDict:
      return evaluate_container(expression, scope);
    case ExpressionKind::kAttribute:
      return get_attribute(runtime_, part(0), expression.name);
    case ExpressionKind::kItem: {
      const Value object = part(0);
      return get_item(runtime_, object, part(1));
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
      return Value(!is_true(part(0)));
    case ExpressionKind::kNegative:
      return negative(runtime_, part(0));
    case ExpressionKind::kPositive:
      return negative(runtime_, negative(runtime_, part(0)));
    case ExpressionKind::kBinary: {
      const Value left = part(0);
      return apply_operator(runtime_, expression.operators[0], left, part(1));
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

Value Interpreter::evaluate_name(const Expression& expression, const ScopePtr& scope) {
  for (const Scope* at = scope.get(); at; at = at->parent.get())
    if (const auto found = at->names.find(expression.name); found != at->names.end()) return found->second;
  return Runtime::make_undefined(fmt::format("'{}' is undefined", expression.name));
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
  Value left = evaluate(*expression.parts[0], scope);
  for (size_t i = 0; i < expression.operators.size(); ++i) {
    Value right = evaluate(*expression.parts[i + 1], scope);
    if (!compare(runtime_, expression.operators[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value Interpreter::evaluate_concatenation(const Expression& expression, const ScopePtr& scope) {
  Text out;
  for (const ExpressionPtr& part : expression.parts) runtime_.append(out, to_text(runtime_, evaluate(*part, scope)));
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
  for (const auto& [name, part] : expression.keywords) arguments.named.emplace_back(name, evaluate(*part, scope));
  return arguments;
}

Value Interpreter::evaluate_filter(const Expression& expression, const ScopePtr& scope) {
  const Value input = evaluate(*expression.parts[0], scope);
  const Arguments arguments = evaluate_arguments(expression, scope);
  runtime_.line = expression.line;
  return apply_filter(runtime_, *expression.filter, input, arguments);
}

Value Interpreter::evaluate_call(const Expression& expression, const ScopePtr& scope) {
  const Value callee = evaluate(*expression.parts[0], scope);
  const Arguments arguments = evaluate_arguments(expression, scope);
  runtime_.line = expression.line;
  if (const Method* method = callee.method()) return call_method(runtime_, *method, arguments);
  if (callee.is<const Macro*>()) return call_macro(*std::get<const Macro*>(callee.data), arguments);
  if (callee.is<Function>()) return call_function(std::get<Function>(callee.data), arguments);
  fail_call(expression, callee, scope);
}

void Interpreter::fail_call(const Expression& expression, const Value& callee, const ScopePtr& scope) {
  const Expression& target = *expression.parts[0];
  if (target.kind == ExpressionKind::kName && callee.is<Undefined>())
    runtime_.fail(
        "function '{}' is not defined; supported: raise_exception, strftime_now, namespace, range, dict, and "
        "the template's own macros",
        target.name);
  if (target.kind == ExpressionKind::kAttribute && callee.is<Undefined>()) {
    const Value object = evaluate(*target.parts[0], scope);
    runtime_.fail("{} has no method '{}'; supported: {}", type_name(object), target.name, method_names(object));
  }
  expect_defined(runtime_, callee);
  runtime_.fail("a value of type {} cannot be called", type_name(callee));
}

Value Interpreter::call_function(Function function, const Arguments& arguments) {
  switch (function) {
    case Function::kRaiseException: {
      arguments.expect(runtime_, "raise_exception", {{"message"}, 1});
      const Text message = to_text(runtime_, *arguments.find(0, "message"));
      runtime_.fail("the template refuses the conversation: {}", message.bytes);
    }
    case Function::kStrftimeNow:
      return format_time(arguments);
    case Function::kRange:
      return make_range(arguments);
    case Function::kNamespace:
      return make_namespace(arguments);
    case Function::kDict: {
      std::vector<std::pair<Value, Value>> entries;
      for (const auto& [name, value] : std::get<Namespace*>(make_namespace(arguments).data)->attributes)
        entries.emplace_back(runtime_.make_text(Text(name)), value);
      return runtime_.make_dict(std::move(entries));
    }
  }
  return Value();
}

// namespace(mapping, name=value ...)
Value Interpreter::make_namespace(const Arguments& arguments) {
  runtime_.charge(16);
  if (arguments.positional.size() > 1)
    runtime_.fail("expected at most one mapping, got {}", arguments.positional.size());
  Namespace& made = namespaces_.emplace_back();
  if (!arguments.positional.empty()) {
    const Dict* dict = arguments.positional[0].dict();
    if (!dict) runtime_.fail("expected a dict, not {}", type_name(arguments.positional[0]));
    for (const auto& [key, value] : dict->entries) {
      if (!key.text()) runtime_.fail("expected a dict with keys of type str, found {}", type_name(key));
      made.attributes.emplace_back(key.text()->bytes, value);
    }
  }
  for (const auto& [name, value] : arguments.named) {
    std::erase_if(made.attributes, [&](const auto& attribute) { return attribute.first == name; });
    made.attributes.emplace_back(name, value);
  }
  return Value(&made);
}

Value Interpreter::make_range(const Arguments& arguments) {
  constexpr int64_t kMaxLength = 100'000;  // the limit of Jinja's sandbox
  arguments.expect(runtime_, "range", {{"start", "stop", "step"}, 1});
  if (!arguments.named.empty()) runtime_.fail("range takes no keyword arguments");
  const bool has_start = arguments.positional.size() > 1;
  int64_t at = has_start ? integer_argument(runtime_, "start", &arguments.positional[0], 0) : 0;
  const int64_t stop = integer_argument(runtime_, "stop", &arguments.positional[has_start ? 1 : 0], 0);
  const int64_t step = integer_argument(runtime_, "step", arguments.find(2, "step"), 1);
  if (step == 0) runtime_.fail("range: the step is zero");
  std::vector<Value> items;
  while (step > 0 ? at < stop : at > stop) {
    if (static_cast<int64_t>(items.size()) == kMaxLength) runtime_.fail("range: more than {} numbers", kMaxLength);
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return runtime_.make_sequence(std::move(items));
}

Value Interpreter::format_time(const Arguments& arguments) {
  arguments.expect(runtime_, "strftime_now", {{"format"}, 1});
  const Text format = to_text(runtime_, *arguments.find(0, "format"));
  std::tm local{};
  if (!localtime_r(&runtime_.now, &local)) runtime_.fail("strftime_now: the clock shows no valid time");
  char buffer[1024];
  const size_t size = std::strftime(buffer, sizeof buffer, format.bytes.c_str(), &local);
  if (size == 0 && format.size() > 0) runtime_.fail("strftime_now: '{}' is too long", format.bytes.substr(0, 80));
  const bool is_user_text = format.marks.find_first_not_of(kTemplateMark) != std::string::npos;
  return runtime_.make_text(Text(std::string_view(buffer, size), is_user_text ? kUserMark : kTemplateMark));
}

}  // namespace plumb::jinja
