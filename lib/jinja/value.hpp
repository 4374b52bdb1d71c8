// Values of the template engine: Python's data model as far as templates see it. All values are immutable except
// namespaces, which the running template owns, so values form no cycles.
// Source: the Jinja template designer documentation; the Python data model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/jinja/text.hpp"

namespace plumb::jinja {

struct Value;
struct Namespace;
struct Loop;
struct Cycler;
struct Joiner;
struct Macro;
struct Method;
struct Scope;
struct Statement;

/// The value of a missing name or attribute: it prints as nothing, and almost any other use of it is an error.
struct Undefined {
  std::shared_ptr<const std::string> what;  // "'x' is undefined"
};

struct None {};

/// Python's list, tuple and range, generators (the result of `map` or `select`: always true, without a length, and
/// every item only once), and dict views.
enum class SequenceKind { kList, kTuple, kRange, kGenerator, kView };

struct Sequence {
  std::vector<Value> items;
  SequenceKind kind = SequenceKind::kList;
  int depth = 1;
  bool is_group = false;         // a tuple of `groupby`, whose items are also .grouper and .list
  mutable size_t num_taken = 0;  // of a generator: it yields no item twice
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in insertion order
  int depth = 1;
};

enum class Function { kRaiseException, kStrftimeNow, kNamespace, kRange, kDict, kCycler, kJoiner, kLipsum };

struct Value {
  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, std::shared_ptr<const Method>, Namespace*, Loop*, Cycler*, Joiner*,
               const Macro*, Function>
      data;

  Value() : data(None()) {}
  template <class T>
  explicit Value(T datum) : data(std::move(datum)) {}

  template <class T>
  bool is() const {
    return std::holds_alternative<T>(data);
  }
  const Text* text() const { return pointee<Text>(); }
  const Sequence* sequence() const { return pointee<Sequence>(); }
  const Dict* dict() const { return pointee<Dict>(); }
  const Method* method() const { return pointee<Method>(); }
  /// Booleans count as integers, as in Python.
  bool is_integer() const { return is<int64_t>() || is<bool>(); }
  bool is_number() const { return is_integer() || is<double>(); }
  int64_t integer() const { return is<bool>() ? std::get<bool>(data) : std::get<int64_t>(data); }
  double number() const { return is<double>() ? std::get<double>(data) : static_cast<double>(integer()); }

 private:
  template <class T>
  const T* pointee() const {
    const auto* pointer = std::get_if<std::shared_ptr<const T>>(&data);
    return pointer ? pointer->get() : nullptr;
  }
};

/// A bound method that was looked up but not called yet.
struct Method {
  Value receiver;
  std::string name;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

/// The variable `loop` of a for statement.
struct Loop {
  std::vector<Value> items;
  int64_t index0 = 0;
  int64_t length = 0;
  int64_t depth0 = 0;  // of recursive calls
  std::optional<std::vector<Value>> last_changed = {};
  const Statement* recursive = nullptr;  // the statement that loop(items) runs again, in this scope
  std::shared_ptr<Scope> scope = nullptr;
};

/// cycler(items ...): `next` returns them in turn.
struct Cycler {
  std::vector<Value> items;
  size_t position = 0;
};

/// joiner(separator): the separator at every call but the first.
struct Joiner {
  Value separator;
  bool is_used = false;
};

struct Limits {
  int64_t num_steps = 5'000'000;
  size_t output_bytes = size_t{64} << 20;
  size_t text_bytes = size_t{512} << 20;  // total of all strings that one rendering creates
};

/// The limits that remain in one rendering, and the current line.
class Runtime {
 public:
  Runtime(const Limits& limits, std::time_t time) : now(time), limits_(limits) {}

  const std::time_t now;
  int line = 1;

  void charge(int64_t steps) {
    num_steps_ += steps;
    if (num_steps_ > limits_.num_steps) fail("exceeds its budget of {} steps", limits_.num_steps);
  }
  /// Charges before creating that many values, each with memory of its own.
  void charge_values(size_t count) { charge(static_cast<int64_t>(std::min<size_t>(count, size_t{1} << 40)) * 4); }
  /// Charges for reading that many bytes.
  void charge_scan(size_t bytes) { charge(static_cast<int64_t>(bytes / 128) + 1); }
  /// Charges before creating a string of that many bytes.
  void charge_text(size_t bytes);

  /// Appends to `out`, charges, and keeps `out` within the limit.
  void append(Text& out, const Text& part);
  void append(Text& out, std::string_view part);  // of the template

  Value make_text(Text text);         // charges for the text
  static Value wrap_text(Text text);  // for a text already charged for
  Value make_sequence(std::vector<Value> items, SequenceKind kind = SequenceKind::kList);
  Value make_group(const Value& key, const Value& items);
  Value make_dict(std::vector<std::pair<Value, Value>> entries);  // an equal key keeps the later value
  Value make_method(const Value& receiver, std::string name);
  static Value make_undefined(std::string what);

  /// Counts recursion during its lifetime, so that deep recursion ends in an error and not in a stack overflow.
  class RecursionGuard {
   public:
    explicit RecursionGuard(Runtime& runtime) : runtime_(runtime) {
      if (runtime_.depth_ >= kMaxRecursion) runtime_.fail("recursion deeper than {} levels", kMaxRecursion);
      ++runtime_.depth_;
    }
    ~RecursionGuard() { --runtime_.depth_; }
    RecursionGuard(const RecursionGuard&) = delete;
    RecursionGuard& operator=(const RecursionGuard&) = delete;

   private:
    Runtime& runtime_;
  };

  template <class... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw_error<DataError>("chat template: line {}: {}", line, fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  void charge_append(const Text& out, size_t bytes);

  static constexpr int kMaxRecursion = 800;

  Limits limits_;
  int depth_ = 0;
  int64_t num_steps_ = 0;
  size_t text_bytes_ = 0;
};

/// Python's name of the type: "str", "list", "NoneType".
std::string_view type_name(const Value& value);
bool is_true(const Value& value);
bool are_equal(Runtime& runtime, const Value& a, const Value& b);
/// a < b; throws for types without an order.
bool is_less(Runtime& runtime, const Value& a, const Value& b);
/// The dict entry of the key, or null.
const Value* find_key(Runtime& runtime, const Dict& dict, const Value& key);
/// Python's iteration: elements, keys or code points. Throws if the value is not iterable.
std::vector<Value> iterate(Runtime& runtime, const Value& value);
bool is_iterable(const Value& value);
/// str(value) and repr(value).
Text to_text(Runtime& runtime, const Value& value);
Text to_repr(Runtime& runtime, const Value& value);
Text to_ascii_repr(Runtime& runtime, const Value& value);
/// A list, tuple or range: what has a length, elements and slices.
bool is_indexable(const Value& value);

}  // namespace plumb::jinja
