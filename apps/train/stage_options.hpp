// The values that the parts of a stage take, from its options.
#pragma once

#include <cstdint>
#include <memory>

#include "apps/options/train_options.hpp"
#include "apps/preference/pairs.hpp"
#include "apps/run/control.hpp"
#include "apps/train/stage_data.hpp"
#include "apps/train/startup_checks.hpp"
#include "apps/train/step_loop.hpp"
#include "lib/objective/objective.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

EngineOptions engine_options(const TrainOptions& options, const ModelConfig& config);

/// config: of the model; with pad_token_id if it has a score head.
std::unique_ptr<Objective> make_objective(const TrainOptions& options, const ModelConfig& config);

/// How the training rows are distributed over steps and micro-batches. Throws UsageError for weights that leave an item
/// of the data without rows.
SamplerOptions sampler_options(const TrainOptions& options, const StageRows& rows);
RowsOptions rows_options(const TrainOptions& options);
PairSetting pair_setting(const TrainOptions& options);
StartupCheckOptions startup_check_options(const TrainOptions& options);

/// The learning rates of a run of this length.
Schedule schedule_of(const TrainOptions& options, int64_t num_steps);

/// num_rows: of an epoch. Throws UsageError if they do not fill a step and the rest is dropped.
RunLength run_length(const TrainOptions& options, int64_t num_rows, int num_ranks);
/// control: asked whether this rank wants to stop; it must outlive the loop.
StepLoopOptions step_loop_options(const TrainOptions& options, int64_t num_steps, const RunControl& control);

}  // namespace plumb
