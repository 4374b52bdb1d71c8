#include "lib/optim/spikes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace plumb {

namespace {

constexpr int64_t kFirstSteps = 20;              // too few steps to estimate what is usual
constexpr double kLastStepWeight = 0.02;         // in mean and variance, after many steps
constexpr double kLeastRelativeDeviation = .01;  // where losses hardly vary, a small deviation is not a spike
constexpr double kMostTimesMedian = 10;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

void add_step(StepHistory& history, double loss, double grad_norm) {
  ++history.num_steps;
  const double weight = std::max(kLastStepWeight, 1 / static_cast<double>(history.num_steps));
  const double difference = loss - history.loss_mean;
  history.loss_mean += weight * difference;
  history.loss_variance = (1 - weight) * (history.loss_variance + weight * difference * difference);
  history.grad_norms.push_back(grad_norm);
  if (history.grad_norms.size() > kGradNormsKept) history.grad_norms.erase(history.grad_norms.begin());
}

std::string describe_spike(const StepHistory& history, double loss, double grad_norm, double threshold) {
  if (threshold == 0 || history.num_steps < kFirstSteps) return "";
  const double deviation =
      std::max(std::sqrt(history.loss_variance), kLeastRelativeDeviation * std::abs(history.loss_mean));
  if (loss > history.loss_mean + threshold * deviation)
    return fmt::format("loss {:.6g} is {:.3g} standard deviations above its running mean {:.6g}", loss,
                       (loss - history.loss_mean) / deviation, history.loss_mean);
  const double usual = median(history.grad_norms);
  if (grad_norm > kMostTimesMedian * usual)
    return fmt::format("gradient norm {:.6g} is more than {} times the median {:.6g} of recent ones", grad_norm,
                       kMostTimesMedian, usual);
  return "";
}

}  // namespace plumb
