// Memory that the ranks of a node share: a file in memory that each of them maps. Its pages are claimed when it is
// made, because a page that the file system no longer has when it is first touched ends the process with SIGBUS, hours
// later and without a word. Source: shm_overview(7), tmpfs(5), posix_fallocate(3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "partition/communicator.hpp"

namespace plumb {

class SharedMemory {
 public:
  /// Collective: over all ranks; those of a node get the same `bytes` bytes, zero at first. A rank that is alone on its
  /// node uses no file. Throws AgreedError (input/output) where there is no room, with the cures. A file is left only
  /// if the job is killed within the call, and then without pages.
  SharedMemory(const Communicator& comm, int64_t bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// Aligned to a page.
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_;
};

/// The size of a rank's file in /dev/shm that Open MPI's transport within a node makes (btl_vader_segment_size).
inline constexpr int64_t kMpiSegmentBytes = int64_t{4} << 20;

/// Collective: claims the pages of files that MPI has mapped into this rank, which are sparse, too. Throws as
/// SharedMemory.
void claim_memory_of_mpi(const Communicator& comm, const std::vector<std::string>& files);

/// Before MPI starts: its files go to PLUMB_SHM_DIR as well, unless Open MPI's own variables say where.
void place_memory_of_mpi();

}  // namespace plumb
