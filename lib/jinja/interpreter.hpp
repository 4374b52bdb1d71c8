// Runs a parsed template: statements in interpreter.cpp, expressions in evaluate.cpp.
// Source: the Jinja template designer documentation; the scoping rules of Jinja 3.
#pragma once

#include <deque>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lib/jinja/arguments.hpp"
#include "lib/jinja/syntax.hpp"
#include "lib/jinja/template.hpp"

namespace plumb::jinja {

/// The names of one block and, through `parent`, of the enclosing blocks.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::unordered_map<std::string_view, Value> names;  // point into the syntax tree or the variables
};
using ScopePtr = std::shared_ptr<Scope>;

struct Macro {
  const Statement* statement;
  ScopePtr scope;  // the scope of the definition
};

class Interpreter {
 public:
  Interpreter(const Limits& limits, std::time_t now) : runtime_(limits, now) {}

  Rendering run(const Block& block, const std::vector<std::pair<std::string, Value>>& variables);

 private:
  enum class Flow { kNormal, kBreak, kContinue };

  Flow execute(const Block& block, const ScopePtr& scope, Text& out);
  Flow execute(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_if(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_for(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_with(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_generation(const Statement& statement, const ScopePtr& scope, Text& out);
  Flow execute_captured(const Statement& statement, const ScopePtr& scope, Text& out);
  std::vector<Value> loop_items(const Statement& statement, const ScopePtr& scope);
  size_t count_output();  // code points of the output so far
  void assign(const Target& target, const Value& value, const ScopePtr& scope);
  void define_macro(const Statement& statement, const ScopePtr& scope);

  Value evaluate(const Expression& expression, const ScopePtr& scope);
  Value evaluate_name(const Expression& expression, const ScopePtr& scope);
  Value evaluate_container(const Expression& expression, const ScopePtr& scope);
  Value evaluate_slice(const Expression& expression, const ScopePtr& scope);
  Value evaluate_compare(const Expression& expression, const ScopePtr& scope);
  Value evaluate_concatenation(const Expression& expression, const ScopePtr& scope);
  Value evaluate_conditional(const Expression& expression, const ScopePtr& scope);
  Value evaluate_call(const Expression& expression, const ScopePtr& scope);
  Value evaluate_filter(const Expression& expression, const ScopePtr& scope);
  Arguments evaluate_arguments(const Expression& expression, const ScopePtr& scope);
  [[noreturn]] void fail_call(const Expression& expression, const Value& callee, const ScopePtr& scope);

  Value call_macro(const Macro& macro, const Arguments& arguments);
  Value call_function(Function function, const Arguments& arguments);
  Value make_range(const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Value format_time(const Arguments& arguments);

  Runtime runtime_;
  // Values hold plain pointers to these, so that macros and namespaces can refer to each other without cycles of
  // ownership.
  std::deque<Namespace> namespaces_;
  std::deque<Loop> loops_;
  std::deque<Macro> macros_;
  Value block_text_;              // the value of kBlockText
  const Text* output_ = nullptr;  // the output that no macro or block captures
  size_t num_counted_ = 0;        // code points of its first num_counted_bytes_
  size_t num_counted_bytes_ = 0;
  std::vector<Span> generations_;
};

}  // namespace plumb::jinja
