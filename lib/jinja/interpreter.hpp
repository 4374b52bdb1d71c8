// Runs a parsed template: statements in interpreter.cpp, expressions in evaluate.cpp, calls in
// calls.cpp.
// Source: the Jinja template designer documentation; the scoping rules of Jinja 3.
#pragma once

#include <forward_list>
#include <memory>
#include <string_view>
#include <vector>

#include "lib/jinja/arguments.hpp"
#include "lib/jinja/syntax.hpp"
#include "lib/jinja/template.hpp"

namespace plumb::jinja {

/// The names of one block and, through `parent`, of the enclosing blocks. They are few, and looked up in their order.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<Symbol, Value>> names;

  Value* find(Symbol name);
  void set(Symbol name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;
ScopePtr inner_scope(const ScopePtr& parent);

/// A parsed template.
struct Syntax {
  Symbols symbols;
  Symbol loop = symbols.make("loop"), caller = symbols.make("caller"), varargs = symbols.make("varargs"),
         kwargs = symbols.make("kwargs");
  std::vector<std::pair<Symbol, Value>> functions;  // the built-in ones that it names
  Block block;
  bool has_generations = false;
};

struct Macro {
  const Statement* statement;
  ScopePtr scope;  // the scope of the definition
};

class Interpreter {
 public:
  Interpreter(const Limits& limits, std::time_t now, const Syntax& syntax) : runtime_(limits, now), syntax_(syntax) {}

  Rendering run(const std::vector<std::pair<std::string, Value>>& variables);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow execute(const Block& block, const ScopePtr& scope, Text& out);
  Flow execute(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_if(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_with(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_generation(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_captured(const Statement& statement, const ScopePtr& scope, Text& out);
  void run_loop(const Statement& statement, const Value& iterable, int64_t depth0, const ScopePtr& scope, Text& out);
  std::vector<Value> loop_items(const Statement& statement, const Value& iterable, const ScopePtr& scope);
  void print(const Value& value, Text& out);
  Value* look_up(Symbol name, const ScopePtr& scope);  // null if it is not defined
  size_t count_output();                               // code points of the output so far
  void assign(const Target& target, const Value& value, const ScopePtr& scope);
  Value make_macro(const Statement& statement, const ScopePtr& scope);

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  /// The value without a copy if it exists already; otherwise it is made in `made`. Valid until a statement runs.
  const Value& evaluate(const Expression& expression, const ScopePtr& scope, Value& made);
  Value evaluate_container(const Expression& expression, const ScopePtr& scope);
  Value evaluate_slice(const Expression& expression, const ScopePtr& scope);
  Value evaluate_compare(const Expression& expression, const ScopePtr& scope);
  Value evaluate_concatenation(const Expression& expression, const ScopePtr& scope);
  Value evaluate_conditional(const Expression& expression, const ScopePtr& scope);
  /// `caller` becomes an argument of that name, if it is not null.
  Value evaluate_call(const Expression& expression, const ScopePtr& scope, const Value* caller = nullptr);
  Value evaluate_filter(const Expression& expression, const ScopePtr& scope);
  Arguments evaluate_arguments(const Expression& expression, const ScopePtr& scope);
  [[noreturn]] void fail_call(const Expression& expression, const Value& callee, const ScopePtr& scope);

  Value call(const Expression& expression, const Value& callee, const Arguments& arguments, const ScopePtr& scope);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  void bind_rest(const Macro& macro, const Arguments& arguments, const std::vector<bool>& is_used,
                 const ScopePtr& scope);
  Value call_loop(const Loop& loop, const Arguments& arguments);
  Value call_joiner(Joiner& joiner, const Arguments& arguments);
  Value call_function(Function function, const Arguments& arguments);
  Value make_range(const Arguments& arguments);
  Value make_dict(const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value format_time(const Arguments& arguments);

  Runtime runtime_;
  const Syntax& syntax_;
  // Values hold plain pointers to these, so that macros and namespaces can refer to each other without cycles of
  // ownership.
  std::forward_list<Namespace> namespaces_;
  std::forward_list<Loop> loops_;
  std::forward_list<Macro> macros_;
  std::forward_list<Cycler> cyclers_;
  std::forward_list<Joiner> joiners_;
  ScopePtr outermost_;            // the template's own
  Value block_text_;              // the value of kBlockText
  const Text* output_ = nullptr;  // the output that no macro or block captures
  size_t num_counted_ = 0;        // code points of its first num_counted_bytes_
  size_t num_counted_bytes_ = 0;
  std::vector<Span> generations_;
};

}  // namespace plumb::jinja
