// Ends a job that hangs; without it, when one rank stops, the others wait for it in a collective forever. A thread per
// rank checks twice a second what lib/base/activity.hpp publishes. When an operation has taken longer than the limit,
// and no rank of the node has made progress in that time, it logs what this rank waits for, its stack and the rank that
// has begun the fewest collectives, and ends the process with exit code 76, after which the launcher ends the others.
// It uses a monotonic clock, so setting the system's clock has no effect, and the time during which a whole job was
// suspended does not count.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "lib/base/activity.hpp"
#include "partition/communicator.hpp"
#include "partition/shared_memory.hpp"

namespace plumb {

class Watchdog {
 public:
  /// Collective: must be called on the main thread, which it watches. With a limit of 0 or a single rank it does
  /// nothing. The limit also becomes process_state().run_limit_seconds. Throws as SharedMemory.
  Watchdog(const Communicator& comm, double limit_seconds);
  /// Collective: except during an exception.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct NodeState;  // in shared memory

  void watch();
  /// Number of operations that all ranks of the node together have begun.
  uint64_t num_operations_of_node() const;
  [[noreturn]] void end_job(const Operation& operation);
  std::string describe_ranks_behind() const;
  bool is_behind() const;
  ProcessProgress& progress_of(int local_index) const;

  double limit_seconds_;
  int rank_;
  int node_begin_;
  int num_ranks_;  // of the node
  bool spans_nodes_;
  MPI_Comm world_;
  pthread_t main_thread_;
  std::optional<SharedMemory> memory_;
  NodeState* node_state_ = nullptr;
  std::mutex mutex_;
  std::condition_variable is_over_changed_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace plumb
