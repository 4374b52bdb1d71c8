// Ensures that one job at a time writes to a run's directory: a lock file names its owner, and a thread renews its
// modification time (the heartbeat). Whether an owner on this machine is alive is decided by its process id; for an
// owner on another host, by observing the heartbeat. Clocks of different hosts are never compared. Rank 0 only.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace plumb {

inline constexpr std::string_view kRunLockName = "job.lock";

/// True if a live job appears to hold the lock, without waiting. For an owner on another host: if it renewed the lock
/// within the last minute.
bool is_run_locked(const std::string& directory);

class RunLock {
 public:
  /// Creates the directory if it is missing. Throws UsageError that names the owner if a live job holds the lock; for
  /// an owner on another host, observing this takes up to 4 heartbeats. Takes over the lock of a dead job. Throws
  /// InputOutputError.
  explicit RunLock(const std::string& directory, double heartbeat_seconds = 10);
  /// Removes the lock, if it is still this job's lock.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  void renew_until_released(double heartbeat_seconds) const;

  std::string path_;
  std::string text_;
  mutable std::mutex mutex_;
  mutable std::condition_variable is_released_changed_;
  bool is_released_ = false;
  std::thread heartbeat_;
};

}  // namespace plumb
