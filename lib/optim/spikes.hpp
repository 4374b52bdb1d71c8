// Whether loss or gradient norm of a step stand out from those of the steps before it. Both are numbers that all ranks
// have alike, so the verdict is too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

/// What is remembered of steps; those that stood out are not among them.
struct StepHistory {
  int64_t num_steps = 0;
  double loss_mean = 0, loss_variance = 0;  // of the first steps each counts alike, later the last ones count most
  std::vector<double> grad_norms;           // of the last kGradNormsKept steps, the oldest first

  bool operator==(const StepHistory&) const = default;
};
inline constexpr size_t kGradNormsKept = 64;

void add_step(StepHistory& history, double loss, double grad_norm);

/// What stands out, for people, or "": a loss more than `threshold` standard deviations above its running mean, or a
/// norm more than ten times the median of recent ones. Nothing does before the 20th step, or with a threshold of 0.
std::string describe_spike(const StepHistory& history, double loss, double grad_norm, double threshold);

}  // namespace plumb
