// Timing and order statistics for the benchmarks.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

namespace plumb {

/// Seconds that work() takes.
template <class Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The value at this fraction of the sorted values, of which there must be at least one.
inline double percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(fraction * static_cast<double>(values.size() - 1))];
}

inline double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

}  // namespace plumb
