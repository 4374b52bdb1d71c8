// The methods of values that templates may call: the non-mutating methods of Python's str, dict and list.
// Source: the Python standard library reference, "Text Sequence Type", "Mapping Types".
#pragma once

#include <string>
#include <string_view>

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

bool has_method(const Value& object, std::string_view name);
/// The methods of the value's type, for messages: "lower, strip, upper"; "none" if there are none.
std::string method_names(const Value& object);
Value call_method(Runtime& runtime, const Method& method, const Arguments& arguments);

/// Charges for a search whose time may grow with the product of both sizes.
void charge_search(Runtime& runtime, const Text& text, const Text& sought);

}  // namespace plumb::jinja
