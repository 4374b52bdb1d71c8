// status.json: the state of a run, for users who are not at its terminal and for monitoring programs. It is replaced
// atomically every ten seconds and when the run ends, so a run whose heartbeat has stopped was killed. Rank 0 only.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "io/run/process_identity.hpp"
#include "lib/base/clock.hpp"

namespace plumb {

inline constexpr std::string_view kStatusFileName = "status.json";

struct RunStatus {
  std::string command = {};       // sft, reward or dpo
  std::string state = "running";  // done, stopped, failed
  std::string message = {};       // the reason why it stopped
  int num_ranks = 1;
  int64_t step = 0, num_steps = 0;  // num_steps 0: unknown yet
  double loss = 0, tokens_per_second = 0, step_seconds = 0, seconds_left = 0;
  int64_t memory_bytes = 0;
  std::string checkpoint = {};  // the last one saved
  double save_seconds = 0;      // the longest save so far
  std::string slow_ranks = {};  // the last warning of slow ranks, with its step
  double step_time = 0;         // end of the last step, in seconds since 1970; 0: none yet
  double heartbeat = 0;         // time of this write, in seconds since 1970
  ProcessIdentity process = {};
};

nlohmann::ordered_json to_json(const RunStatus& status);
/// Returns nullopt if there is no such file. Throws DataError if it has other contents.
std::optional<RunStatus> read_run_status(const std::string& directory);

class RunStatusWriter {
 public:
  /// Writes at once, then periodically. A full or missing disk does not disturb the run.
  RunStatusWriter(const std::string& directory, const RunStatus& status, double interval_seconds = 10);
  /// Writes for the last time. A run for which end() was not called has failed.
  ~RunStatusWriter();
  RunStatusWriter(const RunStatusWriter&) = delete;
  RunStatusWriter& operator=(const RunStatusWriter&) = delete;

  /// Changes the status for the next write.
  void update(const std::function<void(RunStatus&)>& change);
  /// Sets the final state: done or stopped.
  void end(const std::string& state, const std::string& message = "");

 private:
  void write_periodically(double interval_seconds);

  std::string path_;
  RunStatus status_;
  std::mutex mutex_;
  std::condition_variable is_over_changed_;
  bool is_over_ = false;
  std::thread writer_;
};

}  // namespace plumb
