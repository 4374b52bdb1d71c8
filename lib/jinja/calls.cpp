#include <algorithm>
#include <utility>

#include "lib/jinja/interpreter.hpp"
#include "lib/jinja/methods.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {

Value Interpreter::evaluate_call(const Expression& expression, const ScopePtr& scope, const Value* caller) {
  const Expression& target = *expression.parts[0];
  if (target.kind == ExpressionKind::kAttribute && !caller) {  // without a value for the method
    const Value object = evaluate(*target.parts[0], scope);
    expect_defined(runtime_, object);
    if (has_method(object, target.name)) {
      const Arguments arguments = evaluate_arguments(expression, scope);
      runtime_.line = expression.line;
      return call_method(runtime_, object, target.name, arguments);
    }
    return call(expression, get_attribute(runtime_, object, target.name), evaluate_arguments(expression, scope), scope);
  }
  const Value callee = evaluate(target, scope);
  Arguments arguments = evaluate_arguments(expression, scope);
  if (caller) {
    if (arguments.find(SIZE_MAX, "caller")) runtime_.fail("argument 'caller' is given twice");
    arguments.named.emplace_back("caller", *caller);
  }
  return call(expression, callee, arguments, scope);
}

Value Interpreter::call(const Expression& expression, const Value& callee, const Arguments& arguments,
                        const ScopePtr& scope) {
  runtime_.line = expression.line;
  if (const Method* method = callee.method()) return call_method(runtime_, method->receiver, method->name, arguments);
  if (callee.is<const Macro*>()) return call_macro(*std::get<const Macro*>(callee.data), arguments);
  if (callee.is<Function>()) return call_function(std::get<Function>(callee.data), arguments);
  if (callee.is<Loop*>()) return call_loop(*std::get<Loop*>(callee.data), arguments);
  if (callee.is<Joiner*>()) return call_joiner(*std::get<Joiner*>(callee.data), arguments);
  fail_call(expression, callee, scope);
}

void Interpreter::fail_call(const Expression& expression, const Value& callee, const ScopePtr& scope) {
  const Expression& target = *expression.parts[0];
  if (target.kind == ExpressionKind::kName && callee.is<Undefined>())
    runtime_.fail(
        "function '{}' is not defined; supported: raise_exception, strftime_now, namespace, range, dict, cycler, "
        "joiner, and the template's own macros",
        *target.symbol);
  if (target.kind == ExpressionKind::kAttribute && callee.is<Undefined>()) {
    const Value object = evaluate(*target.parts[0], scope);
    if (is_mutator(object, target.name)) expect_defined(runtime_, callee);
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
    case Function::kDict:
      return make_dict(arguments);
    case Function::kCycler:
      if (!arguments.named.empty()) runtime_.fail("cycler takes no keyword arguments");
      if (arguments.positional.empty()) runtime_.fail("cycler needs at least one item");
      runtime_.charge(static_cast<int64_t>(arguments.positional.size()) + 16);
      return Value(&cyclers_.emplace_front(Cycler{arguments.positional}));
    case Function::kJoiner: {
      arguments.expect(runtime_, "joiner", {{"sep"}});
      runtime_.charge(16);
      const Value* separator = arguments.find(0, "sep");
      return Value(&joiners_.emplace_front(Joiner{separator ? *separator : runtime_.make_text(Text(", "))}));
    }
    case Function::kLipsum:
      runtime_.fail("function 'lipsum' is not supported: the same row must give the same text");
  }
  return Value();
}

Value Interpreter::call_joiner(Joiner& joiner, const Arguments& arguments) {
  arguments.expect(runtime_, "joiner", {});
  return std::exchange(joiner.is_used, true) ? joiner.separator : Runtime::wrap_text(Text());
}

Value Interpreter::call_loop(const Loop& loop, const Arguments& arguments) {
  if (!loop.recursive) runtime_.fail("loop(...) needs a loop that is marked 'recursive'");
  arguments.expect(runtime_, "loop", {{"iterable"}, 1});
  const Runtime::RecursionGuard guard(runtime_);
  const int line = runtime_.line;
  Text out;
  run_loop(*loop.recursive, *arguments.find(0, "iterable"), loop.depth0 + 1, loop.scope, out);
  runtime_.line = line;
  return Runtime::wrap_text(std::move(out));
}

// dict(mapping or pairs, name=value ...)
Value Interpreter::make_dict(const Arguments& arguments) {
  if (arguments.positional.size() > 1)
    runtime_.fail("expected at most one dict or list of pairs, got {} arguments", arguments.positional.size());
  std::vector<std::pair<Value, Value>> entries;
  if (!arguments.positional.empty()) {
    const Value& given = arguments.positional[0];
    expect_defined(runtime_, given);
    if (const Dict* dict = given.dict())
      entries = dict->entries;
    else
      for (const Value& item : iterate(runtime_, given)) {
        const std::vector<Value> pair = iterate(runtime_, item);
        if (pair.size() != 2) runtime_.fail("dict: expected pairs, found {} values", pair.size());
        entries.emplace_back(pair[0], pair[1]);
      }
  }
  for (const auto& [name, value] : arguments.named) entries.emplace_back(runtime_.make_text(Text(name)), value);
  runtime_.charge(static_cast<int64_t>(entries.size()));
  return runtime_.make_dict(std::move(entries));
}

Value Interpreter::make_namespace(const Arguments& arguments) {
  runtime_.charge(16);
  const Value dict = make_dict(arguments);
  Namespace& made = namespaces_.emplace_front();
  for (const auto& [key, value] : dict.dict()->entries) {
    if (!key.text()) runtime_.fail("namespace: expected names, found a key of type {}", type_name(key));
    const std::string& name = key.text()->bytes;
    if (name.starts_with('_')) runtime_.fail("attribute '{}' is refused: it starts with '_'", name);
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
  return runtime_.make_sequence(std::move(items), SequenceKind::kRange);
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

// Positional arguments, then those by name, then defaults; what is left over is varargs, kwargs and caller.
Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  const Statement& statement = *macro.statement;
  const auto& parameters = statement.targets;
  const ScopePtr scope = inner_scope(macro.scope);
  const size_t num_given = std::min(arguments.positional.size(), parameters.size());
  for (size_t i = 0; i < num_given; ++i) scope->set(parameters[i].name, arguments.positional[i]);
  std::vector<bool> is_used(arguments.named.size());
  const auto take = [&](std::string_view name) -> const Value* {
    for (size_t i = 0; i < is_used.size(); ++i)
      if (arguments.named[i].first == name && !is_used[i]) {
        is_used[i] = true;
        return &arguments.named[i].second;
      }
    return nullptr;
  };
  std::vector<const Value*> given;
  for (size_t i = num_given; i < parameters.size(); ++i) given.push_back(take(*parameters[i].name));
  bind_rest(macro, arguments, is_used, scope);
  const size_t first_default = parameters.size() - statement.expressions.size();
  for (size_t i = num_given; i < parameters.size(); ++i) {
    const Symbol name = parameters[i].name;
    if (const Value* value = given[i - num_given])
      scope->set(name, *value);
    else if (i >= first_default)
      scope->set(name, evaluate(*statement.expressions[i - first_default], scope));
    else
      scope->set(name, Runtime::make_undefined(fmt::format("parameter '{}' was not provided", *name)));
  }
  const int line = runtime_.line;
  Text out;
  execute(statement.blocks[0], scope, out);
  runtime_.line = line;
  return Runtime::wrap_text(std::move(out));
}

// Binds the special names that the macro reads; an argument that none of them takes is an error.
void Interpreter::bind_rest(const Macro& macro, const Arguments& arguments, const std::vector<bool>& is_used,
                            const ScopePtr& scope) {
  const Statement& statement = *macro.statement;
  Value caller = Runtime::make_undefined("the macro was not called by a call block: no caller");
  std::vector<std::pair<Value, Value>> kwargs;
  for (size_t i = 0; i < is_used.size(); ++i) {
    const auto& [name, value] = arguments.named[i];
    if (is_used[i]) continue;
    if (statement.names.caller && name == "caller") {
      caller = value;
      continue;
    }
    if (!statement.names.kwargs)
      runtime_.fail("macro '{}' has no argument '{}', or got it twice", *statement.name, name);
    kwargs.emplace_back(runtime_.make_text(Text(name)), value);
  }
  if (statement.names.caller) scope->set(syntax_.caller, caller);
  if (statement.names.kwargs) scope->set(syntax_.kwargs, runtime_.make_dict(std::move(kwargs)));
  const size_t num_parameters = std::min(statement.targets.size(), arguments.positional.size());
  if (statement.names.varargs) {
    const auto rest = arguments.positional.begin() + static_cast<ptrdiff_t>(num_parameters);
    scope->set(syntax_.varargs,
               runtime_.make_sequence(std::vector<Value>(rest, arguments.positional.end()), SequenceKind::kTuple));
  } else if (arguments.positional.size() > num_parameters) {
    runtime_.fail("macro '{}' takes {} arguments, got {}", *statement.name, statement.targets.size(),
                  arguments.positional.size());
  }
}

}  // namespace plumb::jinja
