// A limit on the time that MPI takes to start and to end, when no watchdog runs: there, too, one rank that hangs makes
// all others wait forever.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace plumb {

class Deadline {
 public:
  /// what: completes "waits for". If this object lives longer than PLUMB_START_SECONDS (600), or than
  /// process_state().run_limit_seconds, the process reports it and ends with exit code 76, after which the launcher
  /// ends the others.
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
