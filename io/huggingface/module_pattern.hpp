// A regular expression in the syntax of Python's `re` that matches names of modules, as in adapter_config.json. Files
// are untrusted, so each match has a bounded number of steps.
// Source: pcre2api(3); the Python library reference, re.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace plumb {

class ModulePattern {
 public:
  /// Throws DataError with `where` if the expression does not compile. max_steps limits one match.
  ModulePattern(std::string_view expression, std::string_view where, uint32_t max_steps);

  /// True if the expression matches all of `name`. Throws DataError if that takes more than max_steps.
  bool matches(std::string_view name) const;

 private:
  struct Code;
  std::string expression_, where_;
  std::shared_ptr<const Code> code_;
};

}  // namespace plumb
