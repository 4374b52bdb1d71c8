#include "partition/node_memory.hpp"

#include <sched.h>

#include <chrono>
#include <new>
#include <thread>

#include "lib/base/check.hpp"

namespace plumb {

NodeMemory::NodeMemory(const Communicator& comm, int64_t bytes) {
  my_index_ = comm.local_index(comm.rank());
  num_ranks_ = comm.node_size(comm.node());
  constexpr size_t kPage = 4096;
  const size_t progress_bytes = (num_ranks_ * sizeof(RankProgress) + kPage - 1) / kPage * kPage;
  const MPI_Aint wanted = my_index_ == 0 ? static_cast<MPI_Aint>(progress_bytes) + bytes + MPI_Aint{kPage} : 0;
  void* base = nullptr;
  if (MPI_Win_allocate_shared(wanted, 1, MPI_INFO_NULL, comm.node_mpi(), &base, &window_) != MPI_SUCCESS)
    throw_error<CommError>("shared memory of {} bytes per node was refused; is /dev/shm or the session directory full?",
                           wanted);
  MPI_Aint size = 0;
  int unit = 0;
  MPI_Win_shared_query(window_, 0, &size, &unit, &base);
  const auto aligned = (reinterpret_cast<uintptr_t>(base) + kPage - 1) / kPage * kPage;
  auto* start = reinterpret_cast<std::byte*>(aligned);
  progress_ = reinterpret_cast<RankProgress*>(start);
  data_ = start + progress_bytes;
  new (&progress_[my_index_]) RankProgress{};
  MPI_Barrier(comm.node_mpi());
}

NodeMemory::~NodeMemory() {
  if (std::uncaught_exceptions() == 0) MPI_Win_free(&window_);
}

void NodeMemory::wait_for_all(std::atomic<uint64_t> RankProgress::*counter, uint64_t count) const {
  // Ranks may outnumber cores: yield immediately, and sleep if a peer takes long.
  for (size_t i = 0; i < num_ranks_; ++i) {
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
