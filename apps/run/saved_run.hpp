// The state of a run, read from its checkpoints.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/run/inputs.hpp"
#include "apps/run/state.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

/// The state of a run in a checkpoint, beside the model. Throws DataError if it is not the checkpoint of a training
/// run.
struct SavedRun {
  explicit SavedRun(const Checkpoint& checkpoint);

  Inputs inputs;
  int threads_per_rank = 0;
  RunState state;
  nlohmann::ordered_json log;  // StepLog::state()
};

/// Collective: the newest valid checkpoint in output_dir of a step up to last_step and of a run with these inputs.
/// Newer ones that are not valid are skipped with a warning.
std::optional<Checkpoint> open_newest_checkpoint(const Communicator& comm, const std::string& output_dir,
                                                 const Inputs& inputs, int64_t last_step);
/// Collective: throws AgreedError (usage) if the checkpoint is of a run with other inputs.
void require_same_run(const Communicator& comm, const Checkpoint& checkpoint, const Inputs& inputs);

/// Collective: restores the model, on any number of ranks.
void restore_model(const Communicator& comm, const Checkpoint& checkpoint, TrainableModel& model);

}  // namespace plumb
