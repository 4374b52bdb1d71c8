// The loop over the steps of a stage, with log, evaluations and checkpoints, and the reaction to skipped steps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/run/control.hpp"
#include "apps/run/progress.hpp"
#include "apps/run/resume.hpp"
#include "apps/run/state.hpp"
#include "apps/train/checkpoints.hpp"
#include "apps/train/step_log.hpp"
#include "apps/train/step_source.hpp"
#include "apps/train/trainer.hpp"

namespace plumb {

/// The number of steps of a run.
struct RunLength {
  int64_t steps_per_epoch;
  int64_t num_steps;
};

/// Collective: the sum of the proportional set sizes of all ranks, in bytes.
int64_t sum_of_memory(const Communicator& comm);

struct StepLoopOptions {
  TrainerOptions trainer;
  CheckpointOptions checkpoints;
  OnBadSteps on_bad_steps;
  int64_t logging_steps;
  int64_t eval_steps;     // 0: at the end of each epoch
  bool loads_best_model;  // after the last step
};

/// All references must outlive the loop.
struct StepLoopInput {
  const StepLoopOptions& options;
  const Communicator& comm;
  TrainableModel& model;  // as it was after the steps of `start`
  Objective& objective;
  StepSource& source;
  const RunLength& length;
  const RunStart& start;
  RunControl& control;
  RoomForEnd& room;
  StepLog* log;  // rank 0's
};

class StepLoop {
 public:
  explicit StepLoop(const StepLoopInput& input);

  /// Collective: all remaining steps, then a checkpoint of the last one unless there is one, so that the same command
  /// can export the model if this start cannot. Returns whether there is. Throws StoppedRun if the run is to stop
  /// before the last step.
  bool run();

 private:
  void take_step();
  std::vector<MicroBatch> next_batches();
  void save();
  bool save_last_step();
  void log_step(const std::vector<MicroBatch>& batches, const StepStats& stats, double step_seconds);
  void evaluate();
  void stop_at_limit();
  void stop_or_roll_back(const StepStats& stats);
  void roll_back();
  void find_best_so_far();
  void load_best();
  std::string checkpoint_path(int64_t of_step) const;

  int64_t step() const { return trainer_.num_steps_done(); }  // the last step done
  bool is_evaluation_due() const;
  bool is_last() const { return step() == in_.length.num_steps; }
  double epoch() const { return static_cast<double>(step()) / static_cast<double>(in_.length.steps_per_epoch); }

  const StepLoopInput in_;
  RunState state_;  // its `trainer` is updated only before a save
  Trainer trainer_;
  Checkpoints checkpoints_;
  Progress progress_;
  std::optional<EvaluatedStep> evaluated_;  // the last evaluation, if the best model is wanted
  std::optional<double> reward_;            // of the last round
  int64_t memory_bytes_ = 0;
  double start_seconds_ = 0;
};

}  // namespace plumb
