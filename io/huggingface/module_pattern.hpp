// A regular expression of Python's `re` that is matched against the names of a model's modules, as adapter_config.json
// holds them. Expressions come from strangers' files: each match has a bounded number of steps.
// Source: pcre2api(3); Python, Library, re.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace plumb {

class ModulePattern {
 public:
  /// Throws DataError naming `where` if the expression does not compile. max_steps: of one match.
  ModulePattern(std::string_view expression, std::string_view where, uint32_t max_steps);

  /// Whether all of `name` matches. Throws DataError if that takes more than max_steps.
  bool matches(std::string_view name) const;

 private:
  struct Code;
  std::string expression_, where_;
  std::shared_ptr<const Code> code_;
};

}  // namespace plumb
