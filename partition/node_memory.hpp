// One shared-memory window per node, allocated once and divided by its users: a gathered unit exists once per node, and
// a reduce-scatter reads each peer's gradient in place. Ranks wait for each other on counters in the window.
// Source: MPI-3 shared-memory windows (MPI_Win_allocate_shared); Hoefler et al., "MPI + MPI", Computing 95 (2013).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "partition/communicator.hpp"

namespace plumb {

/// Numbers of operations of each kind that a rank has completed. Every rank runs the same operations in the same order,
/// so a count identifies an operation.
struct alignas(64) RankProgress {
  std::atomic<uint64_t> gathers_posted;
  std::atomic<uint64_t> gathers_released;
  std::atomic<uint64_t> reduces_posted;
  std::atomic<uint64_t> reduces_consumed;
};

class NodeMemory {
 public:
  /// Collective: over the ranks of the node. Provides `bytes` bytes, zero at first. Throws CommError if the memory is
  /// refused.
  NodeMemory(const Communicator& comm, int64_t bytes);
  ~NodeMemory();
  NodeMemory(const NodeMemory&) = delete;
  NodeMemory& operator=(const NodeMemory&) = delete;

  std::byte* data() const { return data_; }
  RankProgress& mine() const { return progress_[my_index_]; }

  /// Returns when `counter` of every rank of the node has reached `count`. Local: no MPI call.
  void wait_for_all(std::atomic<uint64_t> RankProgress::*counter, uint64_t count) const;

 private:
  MPI_Win window_ = MPI_WIN_NULL;
  RankProgress* progress_ = nullptr;
  std::byte* data_ = nullptr;
  size_t my_index_ = 0;
  size_t num_ranks_ = 0;
};

}  // namespace plumb
