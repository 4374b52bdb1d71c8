// Everything about a run except its training: its state in status.json, requests to stop, and warnings about slow
// ranks. All of it is local to a rank; the ranks agree on a stop in the sums of a step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/run/progress.hpp"
#include "apps/run/stop_request.hpp"
#include "apps/run/stragglers.hpp"
#include "io/run/status.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// All ranks have stopped before the last step because they were asked to. Not an error: the same command resumes.
class StoppedRun : public AgreedError {
 public:
  using AgreedError::AgreedError;
};

class RunControl {
 public:
  /// The options must outlive this object.
  RunControl(const Communicator& comm, const TrainOptions& options);

  /// Local: whether this rank has been asked to stop, or its time limit is near.
  bool wants_stop() const;

  /// Collective: throws StoppedRun on all ranks if one wants to stop. Only before the first step; afterwards the sums
  /// of the steps carry the request.
  void stop_before_steps(const Communicator& comm);
  /// Local, after a step. picoseconds_per_token: by rank, the same on all ranks.
  void add_step(const ProgressState& progress, const std::vector<int64_t>& picoseconds_per_token, double step_seconds);
  /// The checkpoint of a step is complete; seconds: how long saving it took.
  void add_save(int64_t step, double seconds);
  /// Throws StoppedRun on every rank that calls it. is_saved: whether the checkpoint of this step was saved.
  [[noreturn]] void stop(int64_t step, bool is_saved);
  /// The run is complete.
  void end();

 private:
  std::string reason_to_stop() const;
  [[noreturn]] void stop(const std::string& message, int exit_code);

  const TrainOptions& options_;
  bool is_first_rank_;
  TimeLimit time_;
  Stragglers stragglers_;
  std::optional<RunStatusWriter> status_;  // rank 0's
};

}  // namespace plumb
