// Which modules of a model the names and expressions of an adapter_config.json select.
// Source: PEFT 0.21, check_target_module_exists and get_pattern_key.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/huggingface/module_pattern.hpp"
#include "io/huggingface/peft_config.hpp"

namespace plumb {

/// A name in a list matches the module of this path, and every module whose path ends in it.
bool names_module(const std::string& name, const std::string& path);

/// The step limit of one match, so that all of them together are bounded. Throws DataError for too many patterns.
uint32_t steps_of_a_match(size_t num_patterns, size_t num_modules, std::string_view key);

/// For each of `paths`, whether it is selected.
std::vector<bool> select_modules(const ModuleSelection& selection, const std::vector<std::string>& paths,
                                 std::string_view key);

/// A key of rank_pattern or alpha_pattern, which matches the end of a path.
ModulePattern end_pattern(const std::string& expression, std::string_view key, uint32_t steps);

/// For each path, the value of the first pattern that matches its end, or the fallback.
template <class Value>
std::vector<Value> apply_pattern(const ModulePatterns<Value>& values, const std::vector<std::string>& paths,
                                 Value fallback, std::string_view key) {
  std::vector<Value> result(paths.size(), fallback);
  const uint32_t steps = steps_of_a_match(values.size(), paths.size(), key);
  std::vector<std::pair<ModulePattern, Value>> patterns;
  for (const auto& [expression, value] : values) patterns.emplace_back(end_pattern(expression, key, steps), value);
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto first = std::find_if(patterns.begin(), patterns.end(),
                                    [&](const auto& pattern) { return pattern.first.matches(paths[i]); });
    if (first != patterns.end()) result[i] = first->second;
  }
  return result;
}

}  // namespace plumb
