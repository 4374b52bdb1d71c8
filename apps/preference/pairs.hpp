// The pairs that DPO trains on: those of the data, those that a reward model agrees with, or pairs sampled from the
// model itself.
#pragma once

#include "apps/options/train_options.hpp"
#include "io/run/notes.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: the data to train on: options.data without a reward model, otherwise files in options.output_dir/data or
/// options.data. The reward model is no longer in memory when this returns. Throws AgreedError, with the code of
/// DataError if a filter leaves no pair.
DataOptions choose_pairs(const Communicator& comm, const TrainOptions& options, StageNotes& notes);

/// Collective: for each prompt of the data, the completion with the highest and the one with the lowest reward of
/// num_generations.
DataOptions sample_pairs(const Communicator& comm, const TrainOptions& options, StageNotes& notes);

}  // namespace plumb
