// The built-in tests, used after `is` and by name in `select` and related filters.
// Source: the Jinja template designer documentation, "List of Builtin Tests".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

struct Test {
  std::string_view name;
  Parameters parameters;
  bool (*holds)(Runtime& runtime, const Value& value, const Value* argument);
};

const Test* find_test(std::string_view name);  // null if there is none
std::vector<std::string> test_names();
bool apply_test(Runtime& runtime, const Test& test, const Value& value, const Arguments& arguments);

}  // namespace plumb::jinja
