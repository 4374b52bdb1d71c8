#include "io/huggingface/module_selection.hpp"

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// The step limit for all regular expressions on all modules together, and the bounds for one match.
constexpr int64_t kTotalSteps = 1'000'000'000;
constexpr int64_t kMinSteps = 500, kMaxSteps = 1'000'000;

}  // namespace

bool names_module(const std::string& name, const std::string& path) {
  return path.ends_with(name) && (path.size() == name.size() || path[path.size() - name.size() - 1] == '.');
}

uint32_t steps_of_a_match(size_t num_patterns, size_t num_modules, std::string_view key) {
  const int64_t num_matches = std::max<int64_t>(1, static_cast<int64_t>(num_patterns * num_modules));
  const int64_t steps = std::min(kMaxSteps, kTotalSteps / num_matches);
  if (steps < kMinSteps)
    throw_error<DataError>("{}: expected at most {} patterns for {} modules, got {}", key,
                           kTotalSteps / kMinSteps / static_cast<int64_t>(num_modules), num_modules, num_patterns);
  return static_cast<uint32_t>(steps);
}

std::vector<bool> select_modules(const ModuleSelection& selection, const std::vector<std::string>& paths,
                                 std::string_view key) {
  std::vector<bool> is_selected(paths.size(), false);
  if (!selection.regex.empty()) {
    const ModulePattern pattern(selection.regex, key, steps_of_a_match(1, paths.size(), key));
    for (size_t i = 0; i < paths.size(); ++i) is_selected[i] = pattern.matches(paths[i]);
    return is_selected;
  }
  for (size_t i = 0; i < paths.size(); ++i)
    is_selected[i] = std::any_of(selection.names.begin(), selection.names.end(),
                                 [&](const std::string& name) { return names_module(name, paths[i]); });
  return is_selected;
}

ModulePattern end_pattern(const std::string& expression, std::string_view key, uint32_t steps) {
  return ModulePattern(fmt::format("(.*\\.)?({})", expression), key, steps);
}

}  // namespace plumb
