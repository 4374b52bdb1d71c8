// Prints values as JSON and floats as text, in the format of Python's json.dumps and repr.
// Source: the Python standard library reference, json and float.__repr__.
#pragma once

#include <optional>
#include <string>

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

struct JsonStyle {
  std::optional<Text> indent;  // of one level; none: everything on one line
  Text item_separator{", "};
  Text key_separator{": "};
  bool is_ascii = false;
  bool sorts_keys = false;
};

Text to_json(Runtime& runtime, const Value& value, const JsonStyle& style);
std::string float_text(double value);

}  // namespace plumb::jinja
