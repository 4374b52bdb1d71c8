// Ends a job that hangs. Nothing else does: when one rank stops, the others wait for it in a collective for ever. A
// thread per rank looks twice a second at what lib/base/activity.hpp publishes; once an operation has been under way
// for longer than the limit, and no rank of the node has got anything done in that time, it says what this rank waits
// for, where it stands, and which rank is behind, and ends the process with exit code 76, on which the launcher ends
// the others. Clocks that somebody sets play no part, and a job that was suspended as a whole is not taken for one that
// hangs.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "lib/base/activity.hpp"
#include "partition/communicator.hpp"

namespace plumb {

class Watchdog {
 public:
  /// Collective. Watches the thread that calls this, the main one; with a limit of 0, or on a world of one, nothing.
  Watchdog(const Communicator& comm, double limit_seconds);
  /// Collective, but where an exception flies.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct NodeBoard;  // in shared memory

  void watch();
  /// The progress of all ranks of the node together.
  uint64_t num_operations_of_node() const;
  [[noreturn]] void end_job(const Operation& operation);
  std::string describe_who_is_behind() const;
  bool is_behind() const;
  ProcessProgress& progress_of(int local_index) const;

  double limit_seconds_;
  int rank_;
  int node_begin_;
  int num_ranks_;  // of the node
  bool spans_nodes_;
  MPI_Comm world_;
  pthread_t main_thread_;
  MPI_Win window_ = MPI_WIN_NULL;
  NodeBoard* board_ = nullptr;
  std::mutex mutex_;
  std::condition_variable is_over_changed_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace plumb
