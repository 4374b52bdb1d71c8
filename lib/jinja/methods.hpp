// Methods of values that templates may call: those of Python's str, dict and list that change nothing.
// Source: the Python standard library reference, "Text Sequence Type", "Mapping Types".
#pragma once

#include <string>
#include <string_view>

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

bool has_method(const Value& object, std::string_view name);
/// What the type has, for messages: "lower, strip, upper"; "none" if nothing.
std::string method_names(const Value& object);
Value call_method(Runtime& runtime, const Method& method, const Arguments& arguments);

/// For a search whose time may grow with the product of both sizes.
void charge_search(Runtime& runtime, const Text& text, const Text& sought);

}  // namespace plumb::jinja
