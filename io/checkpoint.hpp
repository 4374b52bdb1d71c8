// What a run needs to go on as if it had never stopped, saved by all ranks and read by any number of them: a directory
// with one file per rank, manifest.json and COMMIT. It is written under a temporary name and takes its own when all of
// it is on the device. A reader trusts only a directory of which every byte has its checksum.
// Files are plain arrays, not HDF5: HDF5 notices neither a crash nor a flipped byte by itself, and where a disk is full
// its close fails in a way that the process cannot recover from.
#pragma once

#include <span>
#include <string>

#include "io/checkpoint_manifest.hpp"
#include "partition/communicator.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

/// A committed checkpoint whose every byte has been verified.
struct Checkpoint {
  std::string path;
  CheckpointManifest manifest;
};

/// Collective: writes `directory`/step-NNNNNN and returns after it is durable. `run`: rank 0's. Throws AgreedError,
/// after which nothing of it is left; what was there before is untouched.
void save_checkpoint(const Communicator& comm, const std::string& directory, int64_t step,
                     const nlohmann::ordered_json& run, std::span<const TrainedShard> shards);

/// Collective: reads the manifest and verifies all files, the ranks in turns. Throws AgreedError (data, or
/// input/output) that says what is wrong.
Checkpoint open_checkpoint(const Communicator& comm, const std::string& path);

/// Collective: fills this rank's shards. Throws AgreedError (data) if the units are others than those that were saved.
void restore_checkpoint(const Communicator& comm, const Checkpoint& checkpoint, std::span<const TrainedShard> shards);

}  // namespace plumb
