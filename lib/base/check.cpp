#include "lib/base/check.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

namespace plumb {

int exit_code(const std::exception& error) {
  if (dynamic_cast<const UsageError*>(&error)) return kExitUsage;
  if (dynamic_cast<const DataError*>(&error)) return kExitData;
  if (dynamic_cast<const InputOutputError*>(&error)) return kExitInputOutput;
  if (dynamic_cast<const CommError*>(&error)) return kExitTransient;
  return kExitInternal;
}

void check(bool holds, std::string_view what, std::source_location where) {
  if (!holds) throw std::logic_error(fmt::format("{}:{}: {}", where.file_name(), where.line(), what));
}

static size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, substituted});
    }
  }
  return row.back();
}

std::string nearest_name(std::string_view word, std::span<const std::string> candidates) {
  std::string best;
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

}  // namespace plumb
