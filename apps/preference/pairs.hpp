// Which pairs DPO trains on: those of the data, those that a reward model does not object to, or pairs sampled from the
// model itself.
#pragma once

#include "apps/options/train_options.hpp"
#include "io/run/notes.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: the data of the stage, in options.output_dir/data where it is not the user's. Without a reward model,
/// options.data. The reward model is out of memory when this returns. Throws AgreedError; a filter that leaves no pair
/// is a DataError.
DataOptions choose_pairs(const Communicator& comm, const TrainOptions& options, StageNotes& notes);

/// Collective: best and worst of num_generations completions of each prompt of the data, as the reward model sees them.
DataOptions sample_pairs(const Communicator& comm, const TrainOptions& options, StageNotes& notes);

}  // namespace plumb
