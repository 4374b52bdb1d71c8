// What a run does beside training: it tells where it stands (status.json), notices that it is to stop, and names ranks
// that are slow. All of it local: what ranks have to agree on travels in the sums of a step.
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

/// All ranks have stopped before the last step, as they were asked to. No error: the same command goes on.
class StoppedRun : public AgreedError {
 public:
  using AgreedError::AgreedError;
};

class RunControl {
 public:
  /// The options must outlive this object.
  RunControl(const Communicator& comm, const TrainOptions& options);

  /// Whether this rank has been asked to stop, or its time is nearly over. The other ranks do not know.
  bool wants_stop() const;

  /// Collective: throws StoppedRun on all ranks if one wants to stop. Before the first step only; later ones ask in
  /// their sums.
  void stop_before_steps(const Communicator& comm);
  /// After a step. picoseconds_per_token: by rank, as the ranks agreed on it.
  void add_step(const ProgressState& progress, const std::vector<int64_t>& picoseconds_per_token, double step_seconds);
  /// The checkpoint of a step is complete, after so long.
  void add_save(int64_t step, double seconds);
  /// Throws StoppedRun, on all ranks that call this. is_saved: of the checkpoint after this step.
  [[noreturn]] void stop(int64_t step, bool is_saved);
  /// The run was carried through.
  void end();

 private:
  std::string reason_to_stop() const;
  [[noreturn]] void stop(const std::string& message, int exit_code);

  const TrainOptions& options_;
  bool is_first_rank_;
  TimeLimit time_;
  Stragglers stragglers_;
  std::optional<RunStatusWriter> status_;  // of rank 0
};

}  // namespace plumb
