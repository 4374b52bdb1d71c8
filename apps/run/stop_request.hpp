// Requests to stop before the last step: SIGUSR1, SIGTERM, or a time limit that is near. All of it is local to a rank;
// the ranks agree in the sums of a step (apps/train/trainer.hpp).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// After this call SIGUSR1 and SIGTERM request a stop instead of ending the process. Repeated signals change nothing.
void stop_on_signals();

/// The first signal received, "SIGUSR1" or "SIGTERM"; "" if none.
std::string_view stop_signal();

/// The time limit of a job. The wall clock is read once; after that a steady clock is used.
class TimeLimit {
 public:
  /// max_seconds: for the whole program, from its start; 0: no limit. A batch system may set an earlier end
  /// (SLURM_JOB_END_TIME, seconds since 1970).
  explicit TimeLimit(double max_seconds);

  /// Whether one more step and a checkpoint, as slow as the slowest so far, might not fit any more.
  bool is_near() const;

  void add_step(double seconds);
  void add_save(double seconds);

 private:
  std::optional<double> end_seconds_;  // by the steady clock
  double slowest_step_seconds_ = 0;    // recently
  double slowest_save_seconds_ = 0;
};

}  // namespace plumb
