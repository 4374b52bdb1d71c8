// Decides how a run starts in its output directory: from scratch, from its newest valid checkpoint, or not at all
// because it is already complete. The same command does all three.
#pragma once

#include <optional>

#include "apps/options/train_options.hpp"
#include "apps/run/inputs.hpp"
#include "apps/run/saved_run.hpp"
#include "partition/communicator.hpp"

namespace plumb {

enum class StartMode { kFromScratch, kResume, kAlreadyDone };

struct RunStart {
  bool is_done = false;                  // nothing is left to do
  Inputs inputs;                         // empty: not described yet, because the run starts from scratch
  std::optional<Checkpoint> checkpoint;  // to resume from
  std::optional<SavedRun> saved;         // the state of the run in that checkpoint

  int64_t num_steps_done() const { return checkpoint ? checkpoint->manifest.step : 0; }
};

/// Collective: decides how the run in output_dir starts, and removes an existing run if it starts from scratch. On
/// another number of ranks than before, gradient_accumulation_steps changes so that each step keeps its rows. Throws
/// AgreedError (usage) that names the differences if a run with other inputs exists and may not be replaced, and
/// AgreedError (data) if there are checkpoints but none is valid.
RunStart claim_run(const Communicator& comm, TrainOptions& options);

}  // namespace plumb
