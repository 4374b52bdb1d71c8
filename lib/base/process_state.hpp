// All state of the program that belongs to the process and not to an object. It is in one place so that nothing else
// keeps any: signal handlers, functions that run at exit and the watchdog's thread reach it without a pointer.
// Elsewhere there is only what is constant after the start (PLUMB_FAULT, the table of kernels for this processor), the
// logger (lib/base/log.cpp), and what libraries keep (LibTorch's number of threads, HDF5's error printing).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "lib/base/activity.hpp"

namespace plumb {

/// An Operation of which every field may be read while it changes.
struct PublishedOperation {
  std::atomic<const char*> operation = nullptr;
  std::atomic<int64_t> unit = -1, bytes = -1;
  std::atomic<uint64_t> sequence = 0;
  std::atomic<int64_t> since_ns = 0, duration_ns = 0;

  void store(const Operation& value);
  Operation load() const;
};

/// The values that one thread publishes.
struct ThreadSlot {
  std::atomic<bool> is_taken = false;
  PublishedOperation now;
  std::atomic<const char*> phase = nullptr;
  std::atomic<int64_t> step = 0;
};

struct ProcessState {
  static constexpr size_t kMaxThreads = 16;  // that publish at a time; of more, only the operations are counted
  static constexpr size_t kNumRemembered = 16;

  /// This process's rank: from the environment until MPI has started, then as the ranks are numbered.
  std::atomic<int> rank = 0;
  /// The first signal that asked for a stop; set by the signal handler of apps/run/stop_request.cpp. 0: none.
  std::atomic<int> stop_signal = 0;
  /// MPI_Abort has been called: its exit() is not one in the middle of the job.
  std::atomic<bool> is_job_aborting = false;
  /// The limit of --watchdog_seconds, which every Deadline also keeps once the run has begun. 0: none.
  std::atomic<double> run_limit_seconds = 0;

  // lib/base/activity.hpp
  std::array<ThreadSlot, kMaxThreads> threads;
  std::array<PublishedOperation, kNumRemembered> last_operations;
  std::atomic<uint64_t> num_remembered = 0;
  std::atomic<int64_t> collective_wait_ns = 0;
  ProcessProgress own_progress = {};
  std::atomic<ProcessProgress*> progress = &own_progress;  // or in memory that the node's processes share
};

/// The only one.
ProcessState& process_state();

}  // namespace plumb
