// One training stage from options to an exported model, for plumb sft, reward and dpo, and for each section of a
// pipeline.
#pragma once

#include "apps/options/train_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: trains and exports. The model is in output_dir/model when this returns, or the adapter in
/// output_dir/adapter. is_watched: the caller has a Watchdog. Throws StoppedRun if the run stops before its last step,
/// AgreedError or NumericError on all ranks together, or any other error on one rank only.
void train_stage(const Communicator& comm, const TrainOptions& options, bool is_watched = false);

}  // namespace plumb
