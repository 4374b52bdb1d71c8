// Checks on a few short rows before the first step: packing, padding and the distribution over ranks must not change
// loss or gradient. They take about as long as two steps; results are written to checks.json and the report.
#pragma once

#include "apps/options/train_options.hpp"
#include "apps/train/stage_data.hpp"
#include "lib/objective/objective.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// Collective: logs each check, and throws NumericError on all ranks if one fails.
void run_startup_checks(const Communicator& comm, const TrainOptions& options, TrainableModel& model,
                        Objective& objective, const StageRows& rows);

}  // namespace plumb
