// When a run is to stop before its last step: on SIGUSR1 or SIGTERM, or when its time is nearly over. A rank asks only
// itself; the ranks agree in the sums of a step (apps/trainer.hpp).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// From now on SIGUSR1 and SIGTERM do not end this process but ask its run to stop. Further ones change nothing.
void stop_on_signals();

/// "SIGUSR1" or "SIGTERM" once one has come, the first that did; else "".
std::string_view stop_signal();

/// The time that a job has, and what it still needs of it. Clocks are looked at once; what counts then is a steady one.
class TimeLimit {
 public:
  /// max_seconds: of the whole program, from its start; 0: as long as it takes. A batch system may set another end
  /// (SLURM_JOB_END_TIME, seconds since 1970).
  explicit TimeLimit(double max_seconds);

  /// Whether one more step and a checkpoint may not fit any more, as the slowest of those before took.
  bool is_near() const;

  void add_step(double seconds);
  void add_save(double seconds);

 private:
  std::optional<double> end_seconds_;  // of the steady clock
  double slowest_step_seconds_ = 0;    // of late
  double slowest_save_seconds_ = 0;
};

}  // namespace plumb
