// Data files to token shards, once, in parallel over all ranks: each tokenizes a contiguous part of the rows and writes
// a shard of its own. The result is named by a hash of all inputs and is reused as long as they are
// the same.
#pragma once

#include <string>

#include "io/dataset/dataset_index.hpp"
#include "io/dataset/prepare_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Collective: the index of `directory`/<key>, made now or before by any number of ranks, and the same on every rank.
/// Throws AgreedError with the code of UsageError, InputOutputError or DataError; then nothing of a new dataset
/// is left.
DatasetIndex prepare_data(const Communicator& comm, const PrepareOptions& options, const std::string& directory);

/// Where prepare_data() put the shards of this index.
std::string dataset_directory(const std::string& directory, const DatasetIndex& index);

}  // namespace plumb
