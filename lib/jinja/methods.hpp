// The methods of values that templates may call: those of Python's str, dict and list that change nothing, and those of
// Jinja's loop and cycler.
// Source: the Python standard library reference, "Text Sequence Type", "Mapping Types"; the Jinja template designer
// documentation, "List of Global Functions".
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

bool has_method(const Value& object, std::string_view name);
/// True for methods of Python that would change the value, which Jinja's sandbox refuses.
bool is_mutator(const Value& object, std::string_view name);
/// The methods of the value's type, for messages: "lower, strip, upper"; "none" if there are none.
std::string method_names(const Value& object);
/// The receiver must have the method.
Value call_method(Runtime& runtime, const Value& receiver, std::string_view name, const Arguments& arguments);

/// Charges for a search whose time may grow with the product of both sizes.
void charge_search(Runtime& runtime, const Text& text, const Text& sought);

struct MethodCall {
  Runtime& runtime;
  const Value& receiver;
  const Arguments& arguments;

  const Text& text() const { return *receiver.text(); }
  /// The argument as a string; null for Python's None and for a missing argument.
  const Text* text_at(size_t index, std::string_view name) const;
  const Text& required_text(size_t index, std::string_view name) const;
};

struct MethodEntry {
  std::string_view name;
  Parameters parameters;
  Value (*apply)(const MethodCall& call);
};

/// The methods of str, in text_methods.cpp; the others are in methods.cpp.
std::span<const MethodEntry> text_methods();

}  // namespace plumb::jinja
