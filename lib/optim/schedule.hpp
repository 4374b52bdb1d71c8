// Learning rate as a pure function of the step. Source: transformers get_{linear,cosine,constant}_schedule.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class ScheduleKind { kLinear, kCosine, kConstant, kConstantWithWarmup };

/// "linear", "cosine", "constant", "constant_with_warmup". Throws UsageError naming these.
ScheduleKind parse_schedule(std::string_view name);

struct Schedule {
  ScheduleKind kind = ScheduleKind::kLinear;
  double peak = 0;
  int64_t num_warmup_steps = 0;
  int64_t num_steps = 0;

  /// The rate of the update that makes `steps_done` into steps_done + 1.
  double at(int64_t steps_done) const;
};

}  // namespace plumb
