// Learning rate as a pure function of the step. Source: transformers get_{linear,cosine,constant}_schedule.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class ScheduleKind { kLinear, kCosine, kConstant, kConstantWithWarmup };

/// The names of --lr_scheduler_type.
template <>
inline constexpr auto kNames<ScheduleKind> = std::to_array<Named<ScheduleKind>>({{"linear", ScheduleKind::kLinear},
                                                                                 {"cosine", ScheduleKind::kCosine},
                                                                                 {"constant", ScheduleKind::kConstant},
                                                                                 {"constant_with_warmup",
                                                                                  ScheduleKind::kConstantWithWarmup}});

struct Schedule {
  ScheduleKind kind = ScheduleKind::kLinear;
  double peak = 0;
  int64_t num_warmup_steps = 0;
  int64_t num_steps = 0;

  /// The learning rate of the update after `steps_done` steps.
  double at(int64_t steps_done) const;
};

}  // namespace plumb
