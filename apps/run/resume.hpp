// How a run begins in its output directory: anew, or after the step of its newest checkpoint that can be trusted, or
// not at all because it was carried through already. The same command does all three.
#pragma once

#include <optional>

#include "apps/options/train_options.hpp"
#include "apps/run/inputs.hpp"
#include "apps/run/saved_run.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct RunStart {
  bool is_done = false;
  Inputs inputs;                         // what the run is made from; empty: not looked at yet, as it begins anew
  std::optional<Checkpoint> checkpoint;  // to go on from
  std::optional<SavedRun> saved;         // what that holds of the run

  int64_t num_steps_done() const { return checkpoint ? checkpoint->manifest.step : 0; }
};

/// Collective: makes output_dir this run's. On another number of ranks gradient_accumulation_steps becomes what keeps
/// the rows of a step. A run that is there goes on if its inputs are those of `options`, starts anew where that is
/// asked for, or is left alone: then all throw AgreedError (usage) that names what differs. Throws AgreedError (data)
/// if there are checkpoints and none can be trusted.
RunStart claim_run(const Communicator& comm, TrainOptions& options);

}  // namespace plumb
