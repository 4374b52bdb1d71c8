#include "lib/jinja/interpreter.hpp"

#include "lib/jinja/parser.hpp"

namespace plumb::jinja {

struct Syntax {
  Block block;
  bool has_generations = false;
};

Template::Template(std::string_view source) {
  auto syntax = std::make_shared<Syntax>();
  Parser parser(tokenize(source));
  syntax->block = parser.parse();
  syntax->has_generations = parser.has_generations();
  syntax_ = std::move(syntax);
}

bool Template::has_generations() const { return syntax_->has_generations; }

Text Template::render(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
                      const Limits& limits) const {
  return render_spans(variables, now, limits).text;
}

Rendering Template::render_spans(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
                                 const Limits& limits) const {
  return Interpreter(limits, now).run(syntax_->block, variables);
}

static ScopePtr inner_scope(const ScopePtr& parent) {
  auto scope = std::make_shared<Scope>();
  scope->parent = parent;
  return scope;
}

Rendering Interpreter::run(const Block& block, const std::vector<std::pair<std::string, Value>>& variables) {
  const auto globals = std::make_shared<Scope>();
  globals->names = {{"raise_exception", Value(Function::kRaiseException)},
                    {"strftime_now", Value(Function::kStrftimeNow)},
                    {"namespace", Value(Function::kNamespace)},
                    {"range", Value(Function::kRange)},
                    {"dict", Value(Function::kDict)}};
  for (const auto& [name, value] : variables) globals->names[name] = value;
  Rendering rendering;
  output_ = &rendering.text;
  execute(block, inner_scope(globals), rendering.text);
  rendering.generations = std::move(generations_);
  return rendering;
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
      runtime_.append(out, Text(statement.name));
      break;
    case StatementKind::kPrint: {
      const Value value = evaluate(*statement.expressions[0], scope);
      if (const Text* text = value.text())
        runtime_.append(out, *text);
      else
        runtime_.append(out, to_text(runtime_, value));
      break;
    }
    case StatementKind::kIf:
      return execute_if(statement, scope, out);
    case StatementKind::kFor:
      return execute_for(statement, scope, out);
    case StatementKind::kSet:
      assign(statement.targets[0], evaluate(*statement.expressions[0], scope), scope);
      break;
    case StatementKind::kSetBlock:
    case StatementKind::kFilter:
      return execute_captured(statement, scope, out);
    case StatementKind::kMacro:
      define_macro(statement, scope);
      break;
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
  for (size_t i = 0; i < num_conditions; ++i)
    if (is_true(evaluate(*statement.expressions[i], scope))) return execute(statement.blocks[i], scope, out);
  if (statement.blocks.size() > num_conditions) return execute(statement.blocks.back(), scope, out);
  return Flow::kNormal;
}

std::vector<Value> Interpreter::loop_items(const Statement& statement, const ScopePtr& scope) {
  std::vector<Value> items = iterate(runtime_, evaluate(*statement.expressions[0], scope));
  if (!statement.expressions[1]) return items;
  std::vector<Value> kept;
  for (Value& item : items) {
    const ScopePtr inner = inner_scope(scope);
    assign(statement.targets[0], item, inner);
    if (is_true(evaluate(*statement.expressions[1], inner))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::execute_for(const Statement& statement, const ScopePtr& scope, Text& out) {
  std::vector<Value> items = loop_items(statement, scope);
  if (items.empty()) return execute(statement.blocks[1], inner_scope(scope), out);
  runtime_.charge(16);
  Loop& loop = loops_.emplace_back();
  loop.length = static_cast<int64_t>(items.size());
  loop.items = std::move(items);
  Flow flow = Flow::kNormal;
  for (loop.index0 = 0; loop.index0 < loop.length && flow != Flow::kBreak; ++loop.index0) {
    runtime_.charge(4);
    const ScopePtr inner = inner_scope(scope);
    inner->names["loop"] = Value(&loop);
    assign(statement.targets[0], loop.items[loop.index0], inner);
    flow = execute(statement.blocks[0], inner, out);
  }
  loop.items.clear();  // `loop` may still be referenced, but previtem and nextitem are gone
  return Flow::kNormal;
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
  else
    runtime_.append(out, to_text(runtime_, value));
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
    scope->names[target.name] = value;
    return;
  }
  for (const Scope* at = scope.get(); at; at = at->parent.get()) {
    const auto found = at->names.find(target.name);
    if (found == at->names.end()) continue;
    if (!found->second.is<Namespace*>()) break;
    auto& attributes = std::get<Namespace*>(found->second.data)->attributes;
    runtime_.charge(static_cast<int64_t>(attributes.size() / 8));
    for (auto& [name, attribute] : attributes)
      if (name == target.attribute) {
        attribute = value;
        return;
      }
    attributes.emplace_back(target.attribute, value);
    return;
  }
  runtime_.fail("cannot assign to attribute '{}' of '{}': it is no namespace", target.attribute, target.name);
}

void Interpreter::define_macro(const Statement& statement, const ScopePtr& scope) {
  runtime_.charge(16);
  scope->names[statement.name] = Value(static_cast<const Macro*>(&macros_.emplace_back(Macro{&statement, scope})));
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  const Statement& statement = *macro.statement;
  const auto& parameters = statement.targets;
  if (arguments.positional.size() > parameters.size())
    runtime_.fail("macro '{}' takes {} arguments, got {}", statement.name, parameters.size(),
                  arguments.positional.size());
  const ScopePtr scope = inner_scope(macro.scope);
  for (size_t i = 0; i < arguments.positional.size(); ++i) scope->names[parameters[i].name] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const bool is_known =
        std::any_of(parameters.begin(), parameters.end(), [&](const Target& p) { return p.name == name; });
    if (!is_known) runtime_.fail("macro '{}' has no argument '{}'", statement.name, name);
    if (scope->names.contains(name)) runtime_.fail("macro '{}' got its argument '{}' twice", statement.name, name);
  }
  const size_t first_default = parameters.size() - statement.expressions.size();
  for (size_t i = arguments.positional.size(); i < parameters.size(); ++i) {
    const std::string& name = parameters[i].name;
    if (const Value* given = arguments.find(i, name))
      scope->names[name] = *given;
    else if (i >= first_default)
      scope->names[name] = evaluate(*statement.expressions[i - first_default], scope);
    else
      scope->names[name] = Runtime::make_undefined(fmt::format("parameter '{}' was not provided", name));
  }
  const int line = runtime_.line;
  Text out;
  execute(statement.blocks[0], scope, out);
  runtime_.line = line;
  return Runtime::wrap_text(std::move(out));
}

}  // namespace plumb::jinja
