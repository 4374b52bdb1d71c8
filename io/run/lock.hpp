// One job at a time writes to a run's directory: a lock file that names its owner, and whose modification time a thread
// renews. Whether an owner on this machine lives, the process table tells; of one elsewhere, a heartbeat that is seen
// to move. Clocks of different hosts are never compared. Rank 0 only.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace plumb {

inline constexpr std::string_view kRunLockName = "job.lock";

/// Whether a job that lives holds the lock, as far as one look tells: of an owner on another host, whether it renewed
/// the lock within the last minute.
bool is_run_locked(const std::string& directory);

class RunLock {
 public:
  /// Creates the directory where it is missing. Throws UsageError naming the owner if another job that lives holds the
  /// lock, which of an owner on another host takes up to 4 heartbeats to see; takes it over from one that does not.
  /// Throws InputOutputError.
  explicit RunLock(const std::string& directory, double heartbeat_seconds = 10);
  /// Removes the lock, if it still is this one's.
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
