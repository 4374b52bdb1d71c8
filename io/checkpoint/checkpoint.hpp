// The state that a run needs to resume as if it had never stopped, saved by all ranks and read by any number of them: a
// directory with one file per rank, manifest.json and COMMIT, which appears complete or not at all
// (io/file/atomic_directory.hpp). A reader trusts only a directory of which every byte has its checksum. The files are
// plain arrays, not HDF5: HDF5 detects neither a crash nor a flipped byte by itself, and on a full disk its close fails
// in a way that the process cannot recover from.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint/manifest.hpp"
#include "io/file/atomic_directory.hpp"
#include "partition/communicator.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

/// A committed checkpoint whose every byte has been verified.
struct Checkpoint {
  std::string path;
  CheckpointManifest manifest;
};

/// Collective: the size of the files of a checkpoint, without its manifest.
int64_t checkpoint_bytes(const Communicator& comm, std::span<const TrainedShard> shards);

/// A checkpoint while it is written.
class CheckpointSave {
 public:
  /// Collective: makes the temporary directory of `directory`/step-NNNNNN and writes this rank's file: before it
  /// returns, or with a `buffer` from a copy there, on a thread, while the shards may change. `run`: rank 0's. Throws
  /// AgreedError, after which nothing of it is left.
  CheckpointSave(const Communicator& comm, const std::string& directory, int64_t step, nlohmann::ordered_json run,
                 std::span<const TrainedShard> shards, std::vector<std::byte>* buffer);
  /// Waits for the thread. Nothing of a checkpoint that was not finished is left.
  ~CheckpointSave() = default;
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  int64_t step() const { return manifest_.step; }
  /// Local: whether this rank has written its file, so that finish() does not wait for it.
  bool is_written() const { return is_written_; }
  /// Collective: publishes the checkpoint, durable on return. Throws AgreedError, after which nothing of it is left.
  void finish();

 private:
  void write(std::span<const std::span<const std::byte>> pieces);

  const Communicator& comm_;
  std::optional<AtomicDirectory> directory_;  // on rank 0
  std::string temporary_;
  CheckpointManifest manifest_;
  CheckpointFile file_;
  std::exception_ptr error_;
  std::atomic<bool> is_written_ = false;
  std::jthread thread_;  // last: it uses the rest
};

/// Collective: reads the manifest and verifies all files, the ranks in turn. Throws AgreedError (data, or
/// input/output).
Checkpoint open_checkpoint(const Communicator& comm, const std::string& path);

/// Collective: fills this rank's shards. Throws AgreedError (data) if the units are others than those that were saved.
void restore_checkpoint(const Communicator& comm, const Checkpoint& checkpoint, std::span<const TrainedShard> shards);

}  // namespace plumb
