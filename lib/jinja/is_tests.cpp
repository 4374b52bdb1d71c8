#include "lib/jinja/is_tests.hpp"

#include "lib/jinja/filters.hpp"
#include "lib/jinja/operators.hpp"

namespace plumb::jinja {
namespace {

bool is_mapping(const Value& value) { return value.dict() != nullptr; }

// True for values that support Python's len() and []. Undefined counts too, as in Jinja.
bool is_sequence(const Value& value) {
  return value.text() || value.dict() || value.is<Undefined>() || is_indexable(value);
}

bool has_remainder(Runtime& runtime, const Value& value, const Value& divisor, int64_t remainder) {
  return are_equal(runtime, apply_operator(runtime, Operator::kModulo, value, divisor), Value(remainder));
}

bool is_same(const Value& a, const Value& b) {
  if (a.data.index() != b.data.index()) return false;
  if (a.is<None>()) return true;
  if (a.is<bool>()) return std::get<bool>(a.data) == std::get<bool>(b.data);
  if (a.is<int64_t>()) return a.integer() == b.integer();
  if (a.text()) return a.text() == b.text();
  if (a.sequence()) return a.sequence() == b.sequence();
  if (a.dict()) return a.dict() == b.dict();
  return false;
}

template <Operator op>
bool compares(Runtime& runtime, const Value& value, const Value* argument) {
  return compare(runtime, op, value, *argument);
}

bool is_callable(const Value& value) {
  return value.method() || value.is<const Macro*>() || value.is<Function>() || value.is<Undefined>() ||
         value.is<Loop*>() || value.is<Joiner*>();
}

const Test kTests[] = {
    {"!=", {{"other"}, 1}, compares<Operator::kNotEqual>},
    {"<", {{"other"}, 1}, compares<Operator::kLess>},
    {"<=", {{"other"}, 1}, compares<Operator::kLessEqual>},
    {"==", {{"other"}, 1}, compares<Operator::kEqual>},
    {">", {{"other"}, 1}, compares<Operator::kGreater>},
    {">=", {{"other"}, 1}, compares<Operator::kGreaterEqual>},
    {"boolean", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<bool>(); }},
    {"callable", {{}}, [](Runtime&, const Value& v, const Value*) { return is_callable(v); }},
    {"defined", {{}}, [](Runtime&, const Value& v, const Value*) { return !v.is<Undefined>(); }},
    {"divisibleby",
     {{"num"}, 1},
     [](Runtime& r, const Value& v, const Value* a) { return has_remainder(r, v, *a, 0); }},
    {"eq", {{"other"}, 1}, compares<Operator::kEqual>},
    {"equalto", {{"other"}, 1}, compares<Operator::kEqual>},
    {"escaped", {{}}, [](Runtime&, const Value& v, const Value*) { return v.text() && v.text()->is_markup; }},
    {"even", {{}}, [](Runtime& r, const Value& v, const Value*) { return has_remainder(r, v, Value(int64_t{2}), 0); }},
    {"false", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<bool>() && !std::get<bool>(v.data); }},
    {"filter",
     {{}},
     [](Runtime&, const Value& v, const Value*) { return v.text() && find_filter(v.text()->bytes) != nullptr; }},
    {"float", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<double>(); }},
    {"ge", {{"other"}, 1}, compares<Operator::kGreaterEqual>},
    {"greaterthan", {{"other"}, 1}, compares<Operator::kGreater>},
    {"gt", {{"other"}, 1}, compares<Operator::kGreater>},
    {"in", {{"seq"}, 1}, compares<Operator::kIn>},
    {"integer", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<int64_t>(); }},
    {"iterable", {{}}, [](Runtime&, const Value& v, const Value*) { return is_iterable(v); }},
    {"le", {{"other"}, 1}, compares<Operator::kLessEqual>},
    {"lessthan", {{"other"}, 1}, compares<Operator::kLess>},
    {"lower", {{}}, [](Runtime& r, const Value& v, const Value*) { return is_all_lower(to_text(r, v).bytes); }},
    {"lt", {{"other"}, 1}, compares<Operator::kLess>},
    {"mapping", {{}}, [](Runtime&, const Value& v, const Value*) { return is_mapping(v); }},
    {"ne", {{"other"}, 1}, compares<Operator::kNotEqual>},
    {"none", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<None>(); }},
    {"number", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is_number(); }},
    {"odd", {{}}, [](Runtime& r, const Value& v, const Value*) { return has_remainder(r, v, Value(int64_t{2}), 1); }},
    {"sameas", {{"other"}, 1}, [](Runtime&, const Value& v, const Value* a) { return is_same(v, *a); }},
    {"sequence", {{}}, [](Runtime&, const Value& v, const Value*) { return is_sequence(v); }},
    {"string", {{}}, [](Runtime&, const Value& v, const Value*) { return v.text() != nullptr; }},
    {"test",
     {{}},
     [](Runtime&, const Value& v, const Value*) { return v.text() && find_test(v.text()->bytes) != nullptr; }},
    {"true", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<bool>() && std::get<bool>(v.data); }},
    {"undefined", {{}}, [](Runtime&, const Value& v, const Value*) { return v.is<Undefined>(); }},
    {"upper", {{}}, [](Runtime& r, const Value& v, const Value*) { return is_all_upper(to_text(r, v).bytes); }},
};

}  // namespace

const Test* find_test(std::string_view name) {
  for (const Test& test : kTests)
    if (test.name == name) return &test;
  return nullptr;
}

std::vector<std::string> test_names() {
  std::vector<std::string> names;
  for (const Test& test : kTests) names.emplace_back(test.name);
  return names;
}

bool apply_test(Runtime& runtime, const Test& test, const Value& value, const Arguments& arguments) {
  if (value.text()) runtime.charge_scan(value.text()->size());
  arguments.expect(runtime, test.name, test.parameters);
  const auto& names = test.parameters.names;
  return test.holds(runtime, value, names.empty() ? nullptr : arguments.find(0, names[0]));
}

}  // namespace plumb::jinja
