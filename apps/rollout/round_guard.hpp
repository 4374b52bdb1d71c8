// Warnings about rounds that teach little, by their metrics: groups whose completions all have the same reward, and
// completions that have no end.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/objective/metric.hpp"

namespace plumb {

class RoundGuard {
 public:
  /// Warnings after another round. Each comes after kRoundsInARow rounds in a row that deserve it, once until a round
  /// does not.
  std::vector<std::string> add(std::span<const Metric> metrics);

  static constexpr int64_t kRoundsInARow = 5;

 private:
  int64_t num_without_signal_ = 0, num_clipped_ = 0;
};

}  // namespace plumb
