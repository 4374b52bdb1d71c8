// Operators, subscripts and attributes of values, with Python's semantics and Jinja's lookup rules.
// Source: the Python language reference, "Expressions"; Jinja's Environment.getattr and getitem.
#pragma once

#include "lib/jinja/syntax.hpp"
#include "lib/jinja/value.hpp"

namespace plumb::jinja {

/// A string on the left that nothing else holds is added to in place.
Value apply_operator(Runtime& runtime, Operator op, Value left, const Value& right);
bool compare(Runtime& runtime, Operator op, const Value& left, const Value& right);
bool contains(Runtime& runtime, const Value& container, const Value& sought);
Value negative(Runtime& runtime, const Value& value);

/// object.name: a method or attribute, else the dict entry of that key, else undefined.
/// `missing`: what a dict without it gives; null: made here.
Value get_attribute(Runtime& runtime, const Value& object, std::string_view name, const Undefined* missing = nullptr);
/// object[key]: an element, else the attribute of that name, else undefined.
Value get_item(Runtime& runtime, const Value& object, const Value& key);
/// object[start:stop:step]; a bound may be None.
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop, const Value& step);

/// Throws if the value is undefined; the message names it.
void expect_defined(const Runtime& runtime, const Value& value);

}  // namespace plumb::jinja
