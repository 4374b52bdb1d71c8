// One shared-memory window per node, allocated once and divided by its users: a gathered unit exists once per node, and
// a reduce-scatter reads each peer's gradient in place. Ranks wait for each other on counters in the window.
// Source: Hoefler et al., "MPI + MPI", Computing 95 (2013).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "partition/communicator.hpp"
#include "partition/shared_memory.hpp"

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
  /// Collective: over all ranks. Provides `bytes` bytes per node, zero at first. Throws as SharedMemory.
  NodeMemory(const Communicator& comm, int64_t bytes);

  std::byte* data() const { return data_; }
  RankProgress& mine() const { return progress_[my_index_]; }

  /// Returns when `counter` of every rank of the node has reached `count`. Local: no MPI call.
  void wait_for_all(std::atomic<uint64_t> RankProgress::*counter, uint64_t count) const;

 private:
  SharedMemory memory_;
  RankProgress* progress_ = nullptr;
  std::byte* data_ = nullptr;
  int my_index_ = 0;
  int num_ranks_ = 0;
};

}  // namespace plumb
