// Lines of a width, as Python's textwrap makes them for Jinja's filter `wordwrap`.
// Source: the Python standard library, textwrap.TextWrapper.
#pragma once

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

struct WrapStyle {
  int64_t width = 79;
  bool breaks_long_words = true;
  bool breaks_on_hyphens = true;
  Text separator{"\n"};
};

/// Each line of the text becomes lines of at most that width.
Text wrap_words(Runtime& runtime, const Text& text, const WrapStyle& style);

}  // namespace plumb::jinja
