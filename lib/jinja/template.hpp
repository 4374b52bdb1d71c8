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

/// Half-open, in code points of the output.
struct Span {
  size_t begin = 0;
  size_t end = 0;
};

struct Rendering {
  Text text;
  std::vector<Span> generations;  // of {% generation %}, in the order of their ends
};

class Template {
 public:
  /// Throws DataError with the line, what was found, and what is supported.
  explicit Template(std::string_view source);

  /// Renders with these variables. `now` is what strftime_now formats, in local time. Throws DataError with the line.
  Text render(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
              const Limits& limits = {}) const;

  /// The same with the places of what {% generation %} encloses. As in transformers, one inside a macro or a captured
  /// block is placed where the output outside of it ends, and may be placed beyond the end of the output.
  Rendering render_spans(const std::vector<std::pair<std::string, Value>>& variables, std::time_t now,
                         const Limits& limits = {}) const;

  /// True if the name of a variable occurs in the source.
  bool reads(std::string_view name) const;

  /// True if {% generation %} occurs in the source.
  bool has_generations() const;

 private:
  std::shared_ptr<const Syntax> syntax_;
};

}  // namespace plumb::jinja
