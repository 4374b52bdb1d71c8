#include "partition/node_memory.hpp"

#include <sched.h>

#include <chrono>
#include <new>
#include <thread>

namespace plumb {

namespace {

/// A page or more before the data, so that these start at a page, too.
int64_t progress_bytes(const Communicator& comm) {
  constexpr int64_t kPage = 4096;
  return (comm.node_size(comm.node()) * static_cast<int64_t>(sizeof(RankProgress)) + kPage - 1) / kPage * kPage;
}

}  // namespace

NodeMemory::NodeMemory(const Communicator& comm, int64_t bytes)
    : memory_(comm, progress_bytes(comm) + bytes),
      progress_(reinterpret_cast<RankProgress*>(memory_.data())),
      data_(memory_.data() + progress_bytes(comm)),
      my_index_(comm.local_index(comm.rank())),
      num_ranks_(comm.node_size(comm.node())) {
  new (&progress_[my_index_]) RankProgress{};
  comm.barrier();
}

void NodeMemory::wait_for_all(std::atomic<uint64_t> RankProgress::*counter, uint64_t count) const {
  // Ranks may outnumber cores: yield immediately, and sleep if a peer takes long.
  for (int i = 0; i < num_ranks_; ++i) {
    for (int64_t tries = 0; (progress_[i].*counter).load(std::memory_order_acquire) < count; ++tries) {
      if (tries < 2000) {
        sched_yield();
      } else {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
  }
}

}  // namespace plumb
