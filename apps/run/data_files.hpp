// The files that the options name: patterns become the files that match them, the same on every rank.
#pragma once

#include <string>
#include <vector>

#include "apps/options/options.hpp"
#include "apps/options/train_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: the options with files in place of patterns, and files_per_item. Throws AgreedError where nothing
/// matches.
DataOptions with_files(const Communicator& comm, DataOptions options);

/// Collective: also those of eval_data.
TrainOptions with_files(const Communicator& comm, TrainOptions options);

}  // namespace plumb
