// The built-in filters. `tojson` is the one of transformers (plain JSON, not escaped for HTML).
// Source: the Jinja template designer documentation, "List of Builtin Filters"; transformers' chat templates.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

struct Filter {
  std::string_view name;
  Parameters parameters;
  Value (*apply)(Runtime& runtime, const Value& input, const Arguments& arguments);
};

const Filter* find_filter(std::string_view name);  // null if there is none
std::vector<std::string> filter_names();
Value apply_filter(Runtime& runtime, const Filter& filter, const Value& input, const Arguments& arguments);

/// The parts of the table: filters of strings and numbers in text_filters.cpp, of lists and dicts in
/// sequence_filters.cpp.
std::span<const Filter> text_filters();
std::span<const Filter> sequence_filters();

}  // namespace plumb::jinja
