// What a run needs to go on as if it had never stopped, saved by all ranks and read by any number of them: a directory
// with one file per rank, manifest.json and COMMIT. It is written under a temporary name and takes its own when all of
// it is on the device. A reader trusts only a directory of which every byte has its checksum.
// Files are plain arrays, not HDF5: HDF5 notices neither a crash nor a flipped byte by itself, and where a disk is full
// its close fails in a way that the process cannot recover from.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint/manifest.hpp"
#include "partition/communicator.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

/// A committed checkpoint whose every byte has been verified.
struct Checkpoint {
  std::string path;
  CheckpointManifest manifest;
};

/// A checkpoint while it is written.
class CheckpointSave {
 public:
  /// Collective: makes the temporary directory of `directory`/step-NNNNNN and writes this rank's file: at once, or with
  /// a `buffer` from a copy there, on a thread, while the shards may change. `run`: rank 0's. Throws AgreedError.
  CheckpointSave(const Communicator& comm, const std::string& directory, int64_t step, nlohmann::ordered_json run,
                 std::span<const TrainedShard> shards, std::vector<std::byte>* buffer);
  /// Waits for the thread. What was not finished has no name, and is removed at the next start.
  ~CheckpointSave() = default;
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  int64_t step() const { return manifest_.step; }
  /// Local: whether finish() would not wait for this rank.
  bool is_written() const { return is_written_; }
  /// Collective: returns after the checkpoint has its name and is durable. Throws AgreedError, after which nothing of
  /// it is left.
  void finish();

 private:
  void write(std::span<const std::span<const std::byte>> pieces);
  void abandon() const;

  const Communicator& comm_;
  std::string directory_;
  std::string temporary_;
  CheckpointManifest manifest_;
  CheckpointFile file_;
  std::exception_ptr error_;
  std::atomic<bool> is_written_ = false;
  std::jthread thread_;  // last: it uses the rest
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
