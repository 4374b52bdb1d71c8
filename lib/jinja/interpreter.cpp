#include "lib/jinja/interpreter.hpp"

#include "lib/jinja/parser.hpp"

namespace plumb::jinja {

static constexpr std::pair<std::string_view, Function> kFunctions[] = {{"raise_exception", Function::kRaiseException},
                                                                       {"strftime_now", Function::kStrftimeNow},
                                                                       {"namespace", Function::kNamespace},
                                                                       {"range", Function::kRange},
                                                                       {"dict", Function::kDict},
                                                                       {"cycler", Function::kCycler},
                                                                       {"joiner", Function::kJoiner},
                                                                       {"lipsum", Function::kLipsum}};

Template::Template(std::string_view source) {
  auto syntax = std::make_shared<Syntax>();
  Parser parser(tokenize(source), syntax->symbols);
  syntax->block = parser.parse();
  syntax->has_generations = parser.has_generations();
  for (const auto& [name, function] : kFunctions)
    if (const Symbol symbol = syntax->symbols.find(name)) syntax->functions.emplace_back(symbol, Value(function));
  syntax_ = std::move(syntax);
}

bool Template::has_generations() const { return syntax_->has_generations; }

Text Template::render(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
                      const Limits& limits) const {
  return render_spans(variables, now, limits).text;
}

Rendering Template::render_spans(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
                                 const Limits& limits) const {
  return Interpreter(limits, now, *syntax_).run(variables);
}

Value* Scope::find(Symbol name) {
  for (auto& [known, value] : names)
    if (known == name) return &value;
  return nullptr;
}

void Scope::set(Symbol name, Value value) {
  if (Value* known = find(name))
    *known = std::move(value);
  else
    names.emplace_back(name, std::move(value));
}

bool Template::reads(std::string_view name) const { return syntax_->symbols.find(name) != nullptr; }

ScopePtr inner_scope(const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

Rendering Interpreter::run(const std::vector<std::pair<std::string, Value>>& variables) {
  const auto globals = std::make_shared<Scope>();
  globals->names.reserve(variables.size() + syntax_.functions.size());
  for (const auto& [name, value] : variables)
    if (const Symbol symbol = syntax_.symbols.find(name)) globals->set(symbol, value);
  for (const auto& [name, function] : syntax_.functions)
    if (!globals->find(name)) globals->names.emplace_back(name, function);
  Rendering rendering;
  constexpr size_t kUsualBytes = 4096;
  rendering.text.reserve(kUsualBytes);
  output_ = &rendering.text;
  outermost_ = inner_scope(globals);
  execute(syntax_.block, outermost_, rendering.text);
  rendering.generations = std::move(generations_);
  return rendering;
}

Value* Interpreter::look_up(Symbol name, const ScopePtr& scope) {
  for (Scope* at = scope.get(); at; at = at->parent.get()) {
    runtime_.charge(static_cast<int64_t>(at->names.size() / 16));
    if (Value* found = at->find(name)) return found;
  }
  return nullptr;
}

Interpreter::Flow Interpreter::execute(const Block& block, const ScopePtr& scope, Text& out) {
  const Runtime::RecursionGuard guard(runtime_);
  for (const StatementPtr& statement : block)
    if (const Flow flow = execute(*statement, scope, out); flow != Flow::kNormal) return flow;
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const Statement& statement, const ScopePtr& scope, Text& out) {
  runtime_.line = statement.line;
  runtime_.charge(1);
  switch (statement.kind) {
    case StatementKind::kData:
      runtime_.append(out, statement.text);
      break;
    case StatementKind::kPrint:
      for (const ExpressionPtr& expression : statement.expressions) {
        Value made;
        print(evaluate(*expression, scope, made), out);
      }
      break;
    case StatementKind::kIf:
      return execute_if(statement, scope, out);
    case StatementKind::kFor:
      run_loop(statement, evaluate(*statement.expressions[0], scope), 0, scope, out);
      break;
    case StatementKind::kSet:
      assign(statement.targets[0], evaluate(*statement.expressions[0], scope), scope);
      break;
    case StatementKind::kSetBlock:
    case StatementKind::kFilter:
      return execute_captured(statement, scope, out);
    case StatementKind::kMacro:
      scope->set(statement.name, make_macro(statement, scope));
      break;
    case StatementKind::kCall: {
      const Value caller = make_macro(statement, scope);
      print(evaluate_call(*statement.call, scope, &caller), out);
      break;
    }
    case StatementKind::kBlock:
      return execute(statement.blocks[0], inner_scope(statement.flag ? scope : outermost_), out);
    case StatementKind::kWith:
      return execute_with(statement, scope, out);
    case StatementKind::kGeneration:
      return execute_generation(statement, scope, out);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute_if(const Statement& statement, const ScopePtr& scope, Text& out) {
  const size_t num_conditions = statement.expressions.size();
  for (size_t i = 0; i < num_conditions; ++i) {
    Value made;
    if (is_true(evaluate(*statement.expressions[i], scope, made))) return execute(statement.blocks[i], scope, out);
  }
  if (statement.blocks.size() > num_conditions) return execute(statement.blocks.back(), scope, out);
  return Flow::kNormal;
}

void Interpreter::print(const Value& value, Text& out) {
  if (const Text* text = value.text())
    runtime_.append(out, *text);
  else
    runtime_.append(out, to_text(runtime_, value));
}

std::vector<Value> Interpreter::loop_items(const Statement& statement, const Value& iterable, const ScopePtr& scope) {
  std::vector<Value> items = iterate(runtime_, iterable);
  if (!statement.expressions[1]) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    const ScopePtr inner = inner_scope(scope);
    assign(statement.targets[0], item, inner);
    if (is_true(evaluate(*statement.expressions[1], inner))) kept.push_back(std::move(item));
  }
  return kept;
}

void Interpreter::run_loop(const Statement& statement, const Value& iterable, int64_t depth0, const ScopePtr& scope,
                           Text& out) {
  std::vector<Value> items = loop_items(statement, iterable, scope);
  if (items.empty()) {
    execute(statement.blocks[1], inner_scope(scope), out);
    return;
  }
  runtime_.charge(16);
  Loop& loop = loops_.emplace_front();
  loop.length = static_cast<int64_t>(items.size());
  loop.items = std::move(items);
  loop.depth0 = depth0;
  if (statement.flag) loop.recursive = &statement, loop.scope = scope;
  Flow flow = Flow::kNormal;
  for (loop.index0 = 0; loop.index0 < loop.length && flow != Flow::kBreak; ++loop.index0) {
    runtime_.charge(4);
    const ScopePtr inner = inner_scope(scope);
    inner->names.reserve(4);
    inner->names.emplace_back(syntax_.loop, Value(&loop));
    assign(statement.targets[0], loop.items[loop.index0], inner);
    flow = execute(statement.blocks[0], inner, out);
  }
  loop.items.clear();  // `loop` may still be referenced, but previtem and nextitem are gone
}

// As in transformers, whose place of a generation is where the output ends that is not captured by a macro or a block,
// and whose lengths are in code points.
Interpreter::Flow Interpreter::execute_generation(const Statement& statement, const ScopePtr& scope, Text& out) {
  const Span place = {count_output(), 0};
  Text captured;
  const Flow flow = execute(statement.blocks[0], inner_scope(scope), captured);
  runtime_.charge_scan(captured.size());
  generations_.push_back({place.begin, place.begin + count_code_points(captured.bytes)});
  runtime_.append(out, captured);
  return flow;
}

size_t Interpreter::count_output() {
  const std::string_view more = std::string_view(output_->bytes).substr(num_counted_bytes_);
  runtime_.charge_scan(more.size());
  num_counted_ += count_code_points(more);
  num_counted_bytes_ = output_->size();
  return num_counted_;
}

Interpreter::Flow Interpreter::execute_with(const Statement& statement, const ScopePtr& scope, Text& out) {
  const ScopePtr inner = inner_scope(scope);
  for (size_t i = 0; i < statement.targets.size(); ++i)
    assign(statement.targets[i], evaluate(*statement.expressions[i], scope), inner);
  return execute(statement.blocks[0], inner, out);
}

// {% set x %}...{% endset %} and {% filter f %}...{% endfilter %}
Interpreter::Flow Interpreter::execute_captured(const Statement& statement, const ScopePtr& scope, Text& out) {
  Text captured;
  const Flow flow = execute(statement.blocks[0], inner_scope(scope), captured);
  if (flow != Flow::kNormal) return flow;
  Value value = runtime_.make_text(std::move(captured));
  if (statement.expressions[0]) {
    std::swap(block_text_, value);
    Value filtered = evaluate(*statement.expressions[0], scope);
    block_text_ = std::move(value);
    value = std::move(filtered);
  }
  if (statement.kind == StatementKind::kSetBlock)
    assign(statement.targets[0], value, scope);
  else if (const Text* text = value.text())
    runtime_.append(out, *text);
  else
    runtime_.fail("the filters of a filter block must make a string, not {}", type_name(value));
  return Flow::kNormal;
}

void Interpreter::assign(const Target& target, const Value& value, const ScopePtr& scope) {
  if (target.is_tuple) {
    const std::vector<Value> items = iterate(runtime_, value);
    if (items.size() != target.parts.size())
      runtime_.fail("cannot unpack {} values into {} names", items.size(), target.parts.size());
    for (size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i], scope);
    return;
  }
  if (target.attribute.empty()) {
    runtime_.charge(static_cast<int64_t>(scope->names.size() / 16));
    scope->set(target.name, value);
    return;
  }
  if (Value* holder = look_up(target.name, scope); holder && holder->is<Namespace*>()) {
    auto& attributes = std::get<Namespace*>(holder->data)->attributes;
    runtime_.charge(static_cast<int64_t>(attributes.size() / 8));
    for (auto& [name, attribute] : attributes)
      if (name == target.attribute) {
        attribute = value;
        return;
      }
    attributes.emplace_back(target.attribute, value);
    return;
  }
  runtime_.fail("cannot assign to attribute '{}' of '{}': it is no namespace", target.attribute, *target.name);
}

Value Interpreter::make_macro(const Statement& statement, const ScopePtr& scope) {
  runtime_.charge(16);
  return Value(static_cast<const Macro*>(&macros_.emplace_front(Macro{&statement, scope})));
}

}  // namespace plumb::jinja
