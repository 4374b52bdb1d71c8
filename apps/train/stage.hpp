// One training stage from options to an exported model: what plumb sft, reward and dpo do, and what a pipeline does for
// each of its sections.
#pragma once

#include <string>

#include "apps/options/train_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective. The model is in output_dir/model when this returns. Throws AgreedError, or what ends the job.
/// is_watched: by a Watchdog of the caller's.
void train_stage(const Communicator& comm, const TrainOptions& options, bool is_watched = false);

}  // namespace plumb
