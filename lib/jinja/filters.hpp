// The built-in filters. `tojson` is the one of transformers (plain JSON, not escaped for HTML).
// Source: the Jinja template designer documentation, "List of Builtin Filters"; transformers' chat templates.
#pragma once

#include <optional>
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
/// The message for a name that no filter has.
std::string missing_filter(std::string_view name);
Value apply_filter(Runtime& runtime, const Filter& filter, const Value& input, const Arguments& arguments);

/// The parts of the table, each in the file of its name.
std::span<const Filter> text_filters();      // of strings and numbers
std::span<const Filter> layout_filters();    // of the layout of texts: HTML, URLs, lines
std::span<const Filter> sequence_filters();  // of lists and dicts

/// Resolves an `attribute` argument: "a.b.0" means item["a"]["b"][0]. A step that finds nothing gives `otherwise`, if
/// that is not null.
Value resolve_path(Runtime& runtime, Value item, const Value& path, const Value* otherwise = nullptr);

/// float(value) of Python: of a number, or of a string that spells one.
std::optional<double> to_float(const Value& value);

}  // namespace plumb::jinja
