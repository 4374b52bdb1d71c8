// Detects steps whose loss or gradient norm is an outlier among the steps before. All ranks have the same two numbers,
// so they reach the same verdict.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

/// Statistics of past steps, without the outliers.
struct StepHistory {
  int64_t num_steps = 0;
  double loss_mean = 0, loss_variance = 0;  // early steps have equal weights; later on, recent steps weigh most
  std::vector<double> grad_norms;           // norms of the last kGradNormsKept steps, oldest first

  bool operator==(const StepHistory&) const = default;
};
inline constexpr size_t kGradNormsKept = 64;

void add_step(StepHistory& history, double loss, double grad_norm);

/// Describes the outlier in human-readable form, or "": a loss more than `threshold` standard deviations above its
/// running mean, or a norm more than ten times the median of recent ones. There is none before the 20th step, or with a
/// threshold of 0.
std::string describe_spike(const StepHistory& history, double loss, double grad_norm, double threshold);

}  // namespace plumb
