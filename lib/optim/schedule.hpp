// Learning rate as a pure function of the step. Source: transformers get_{linear,cosine,constant}_schedule.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class ScheduleKind { kLinear, kCosine, kConstant, kConstantWithWarmup };

/// Parses "linear", "cosine", "constant" or "constant_with_warmup". Throws UsageError that lists them.
ScheduleKind parse_schedule(std::string_view name);

struct Schedule {
  ScheduleKind kind = ScheduleKind::kLinear;
  double peak = 0;
  int64_t num_warmup_steps = 0;
  int64_t num_steps = 0;

  /// The learning rate of the update after `steps_done` steps.
  double at(int64_t steps_done) const;
};

}  // namespace plumb
