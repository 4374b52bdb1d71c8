// Checks on a few short rows before the first step: packing, padding and the distribution over ranks must not change
// loss or gradient. They take about as long as two steps; results are written to checks.json and the report.
#pragma once

#include <cstdint>
#include <string>

#include "apps/train/stage_data.hpp"
#include "lib/objective/objective.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// The setting of the checks and the directory of their results.
struct StartupCheckOptions {
  std::string output_dir;
  double tolerance;  // of relative differences
  int64_t rows_per_micro_batch;
  int64_t accumulation_steps;
  bool starts_at_reference;  // dpo: its reference is the model that training starts from
  bool has_score;            // reward: texts have a reward that padding must not change
};

/// Collective: logs each check, and throws NumericError on all ranks if one fails.
void run_startup_checks(const Communicator& comm, const StartupCheckOptions& options, TrainableModel& model,
                        Objective& objective, const StageRows& rows);

}  // namespace plumb
