// The template engine: compiles Jinja's language as far as chat templates use it, and renders it within limits that
// hold for hostile templates too. There is no reflection, no input or output, and nothing that a template can change.
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
