// The syntax tree of a template: statements and expressions. parser.hpp makes it, interpreter.hpp runs it.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

struct Filter;
struct Test;
struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

/// A name of a variable. Equal names of one template have the same address, which is quick to compare.
using Symbol = const std::string*;

class Symbols {
 public:
  Symbol make(std::string_view name) { return &*names_.emplace(name).first; }
  /// Null if the template does not have the name.
  Symbol find(std::string_view name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? nullptr : &*found;
  }

 private:
  std::set<std::string, std::less<>> names_;
};

enum class Operator {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

enum class ExpressionKind {
  kConstant,     // constant
  kName,         // symbol
  kList,         // parts
  kTuple,        // parts
  kDict,         // parts: key, value, key, value ...
  kAttribute,    // parts[0].name
  kItem,         // parts[0][parts[1]]
  kSlice,        // parts[0][parts[1]:parts[2]:parts[3]]; absent ones are null
  kCall,         // parts[0](parts[1], ..., keywords)
  kFilter,       // parts[0] | filter(parts[1], ..., keywords)
  kTest,         // parts[0] is test(parts[1], ..., keywords)
  kNot,          // parts[0]
  kNegative,     // parts[0]
  kPositive,     // parts[0]
  kBinary,       // parts[0] operators[0] parts[1]
  kCompare,      // parts[0] operators[0] parts[1] operators[1] parts[2] ...
  kConcatenate,  // parts, joined by ~
  kAnd,          // parts[0] and parts[1]
  kOr,           // parts[0] or parts[1]
  kConditional,  // parts[1] if parts[0] else parts[2]; the last may be null
  kBlockText,    // the input of the filters of a set block or filter block
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  int line = 1;
  int depth = 1;  // of the tree rooted here
  Value constant;
  std::string name;
  Symbol symbol = nullptr;
  Undefined missing;  // the value of a name that is not defined, or of an attribute that a dict lacks
  std::vector<ExpressionPtr> parts;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;
  ExpressionPtr more_parts;     // *arguments of a call, or null
  ExpressionPtr more_keywords;  // **arguments of a call, or null
  std::vector<Operator> operators;
  const Filter* filter = nullptr;
  const Test* test = nullptr;
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

/// The target of an assignment: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  Symbol name = nullptr;
  std::string attribute;  // "" for a plain name
  std::vector<Target> parts;
  bool is_tuple = false;
};

enum class StatementKind {
  kData,        // text
  kPrint,       // expressions
  kIf,          // expressions[i] guards blocks[i]; one block more is the else branch
  kFor,         // targets[0] in expressions[0], if expressions[1] (may be null); blocks[0], else blocks[1]; `flag`: it
                // is recursive
  kSet,         // targets[0] = expressions[0]
  kSetBlock,    // targets[0] = blocks[0], filtered by expressions[0] (may be null)
  kMacro,       // name(targets, the last of which have defaults: expressions); blocks[0]
  kCall,        // call, whose caller() is: targets and expressions as of a macro; blocks[0]
  kBlock,       // blocks[0] in a scope in the outermost one, or in the current one with `flag`
  kWith,        // targets[i] = expressions[i]; blocks[0]
  kFilter,      // blocks[0] filtered by expressions[0]
  kGeneration,  // blocks[0] in a scope of its own, and its place in the output
  kBreak,
  kContinue,
};

/// The names that a macro has beside its parameters, if its body reads them.
struct MacroNames {
  bool caller = false;
  bool varargs = false;
  bool kwargs = false;
};

struct Statement {
  StatementKind kind = StatementKind::kData;
  int line = 1;
  std::string text;
  Symbol name = nullptr;
  std::vector<Target> targets;
  std::vector<ExpressionPtr> expressions;
  std::vector<Block> blocks;
  ExpressionPtr call;
  bool flag = false;
  MacroNames names;  // that the body of a macro or of a call block reads
};

}  // namespace plumb::jinja
