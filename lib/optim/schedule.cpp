#include "lib/optim/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace plumb {

double Schedule::at(int64_t steps_done) const {
  const auto done = static_cast<double>(steps_done), warmup = static_cast<double>(num_warmup_steps);
  if (kind == ScheduleKind::kConstant) return peak;
  if (steps_done < num_warmup_steps) return peak * (done / std::max(1.0, warmup));
  if (kind == ScheduleKind::kConstantWithWarmup) return peak;
  const double rest = std::max(1.0, static_cast<double>(num_steps) - warmup);
  if (kind == ScheduleKind::kLinear) return peak * std::max(0.0, (static_cast<double>(num_steps) - done) / rest);
  const double progress = (done - warmup) / rest;
  return peak * std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
}

}  // namespace plumb
