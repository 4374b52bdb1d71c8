// The template engine: compiles the part of Jinja that chat templates use, and renders it within limits on steps,
// memory and recursion that also hold for hostile templates. Templates have no reflection, no input or output, and
// cannot change their variables.
//
// The engine is plumb's own because no maintained C++ library renders chat templates as transformers does, tracks
// through every operation which bytes came from user messages (so that they never become control tokens), and bounds
// time and memory.
//
// Source: the Jinja template designer documentation; semantics of Jinja 3 with transformers' settings (trim_blocks,
// lstrip_blocks, loop controls).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/jinja/value.hpp"

namespace plumb::jinja {

struct Syntax;

class Template {
 public:
  /// Throws DataError with the line, what was found, and what is supported.
  explicit Template(std::string_view source);

  /// Renders with these variables. `now` is what strftime_now formats, in local time. Throws DataError with the line.
  Text render(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
              const Limits& limits = {}) const;

 private:
  std::shared_ptr<const Syntax> syntax_;
};

}  // namespace plumb::jinja
