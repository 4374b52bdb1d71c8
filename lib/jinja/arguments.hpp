// Matches the arguments of a call to the parameters of built-in filters, tests, functions and methods.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

/// Parameter names, of which the first num_required are required. A single "*" accepts any arguments.
struct Parameters {
  std::vector<std::string_view> names;
  size_t num_required = 0;
  bool is_positional = false;  // arguments by name are refused
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// The argument at that position or of that name, or null.
  const Value* find(size_t index, std::string_view name) const;
  /// Throws unless the arguments fit `parameters`; charges for the strings among them.
  void expect(Runtime& runtime, std::string_view callee, const Parameters& parameters) const;
};

int64_t integer_argument(Runtime& runtime, std::string_view name, const Value* argument, int64_t otherwise);
bool flag_argument(const Value* argument, bool otherwise);
Text text_argument(Runtime& runtime, const Value* argument, std::string_view otherwise);

}  // namespace plumb::jinja
