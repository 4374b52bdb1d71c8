// A limit on what no watchdog can watch yet, or any more: MPI while it starts and ends. There, too, one rank that hangs
// lets all others wait for ever.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace plumb {

/// The run's own limit, for every Deadline from here on.
void limit_deadlines(double seconds);

class Deadline {
 public:
  /// what: completes "waits for". If this object lives longer than PLUMB_START_SECONDS (600), or than a limit that the
  /// run has of its own, the process says so and ends with exit code 76, on which the launcher ends the others.
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
