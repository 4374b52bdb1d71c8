// Proofs that a run is sound, on a few short rows before the first step: what must not matter does not matter. They
// take the time of about two steps and end up in checks.json and in the report.
#pragma once

#include "apps/options/train_options.hpp"
#include "apps/train/stage_data.hpp"
#include "lib/objective/objective.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// Collective. Says what was proved; throws NumericError, on all ranks alike, where a proof fails.
void run_startup_checks(const Communicator& comm, const TrainOptions& options, TrainableModel& model,
                        Objective& objective, const StageRows& rows);

}  // namespace plumb
