// A time limit for MPI_Init and MPI_Finalize, when no watchdog runs: there, too, one rank that hangs makes all others
// wait forever.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace plumb {

class Deadline {
 public:
  /// what: completes the log line "waits for WHAT". If this object lives longer than PLUMB_START_SECONDS (default 600)
  /// or process_state().run_limit_seconds, whichever is shorter, the process logs an error and exits with code 76,
  /// after which the launcher ends the other ranks. A limit of 0 is ignored.
  explicit Deadline(const std::string& what);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable is_over_changed_;
  bool is_over_ = false;
  std::thread thread_;
};

}  // namespace plumb
