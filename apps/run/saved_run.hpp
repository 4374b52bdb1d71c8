// A run read back from its checkpoints.
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

/// What a checkpoint holds of a run beside the model. Throws DataError where it is no checkpoint of a training run.
struct SavedRun {
  explicit SavedRun(const Checkpoint& checkpoint);

  Inputs inputs;
  int threads_per_rank = 0;
  RunState state;
  nlohmann::ordered_json log;  // StepLog::state()
};

/// Collective: the newest of output_dir's checkpoints, not after `last_step`, that can be trusted and was made from
/// these inputs; those before it are passed over with a warning.
std::optional<Checkpoint> open_newest_checkpoint(const Communicator& comm, const std::string& output_dir,
                                                 const Inputs& inputs, int64_t last_step);
/// Collective: throws AgreedError (usage) where the checkpoint was made from other inputs.
void require_same_run(const Communicator& comm, const Checkpoint& checkpoint, const Inputs& inputs);

/// Collective: the model as it was, on any number of ranks.
void restore_model(const Communicator& comm, const Checkpoint& checkpoint, TrainableModel& model);

}  // namespace plumb
