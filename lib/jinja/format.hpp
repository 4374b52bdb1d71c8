// Python's two languages of format strings: "%5.1f" % x, and "{:>5}".format(x). What comes from a value keeps its
// marks; what the formatter writes itself is marked as the format string is there.
// Source: the Python standard library reference, "printf-style String Formatting" and "Format String Syntax"; Jinja's
// SandboxedFormatter.
#pragma once

#include "lib/jinja/arguments.hpp"

namespace plumb::jinja {

/// format % values, where a tuple holds several values and a dict is looked up by "%(key)s".
Text format_percent(Runtime& runtime, const Text& format, const Value& values);

/// format.format(*positional, **named)
Text format_braces(Runtime& runtime, const Text& format, const Arguments& arguments);

}  // namespace plumb::jinja
