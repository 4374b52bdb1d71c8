// The steps of a stage, one after the other, and what happens between them: the log, evaluations, checkpoints, and what
// becomes of steps that are no good.
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
#include "apps/train/stage_data.hpp"
#include "apps/train/step_log.hpp"
#include "apps/train/trainer.hpp"
#include "io/dataset/batch_stream.hpp"

namespace plumb {

/// How many steps a run has, from rows and options.
struct RunLength {
  int64_t steps_per_epoch;
  int64_t num_steps;
};

/// Collective: proportional set of all ranks, bytes.
int64_t sum_of_memory(const Communicator& comm);

/// What a loop works with; all of it outlives the loop.
struct StepLoopInput {
  const TrainOptions& options;
  const Communicator& comm;
  TrainableModel& model;  // as it is after the steps of `start`
  Objective& objective;
  const StageRows& train_rows;
  const StageRows* eval_rows;  // or nullptr
  const RunLength& length;
  const RunStart& start;
  RunControl& control;
  StepLog* log;  // rank 0's
};

class StepLoop {
 public:
  explicit StepLoop(const StepLoopInput& input);

  /// Collective: all steps that are left. Throws StoppedRun where the run is to stop.
  void run();

 private:
  void take_step();
  void log_step(const std::vector<MicroBatch>& batches, const StepStats& stats, double step_seconds);
  void evaluate();
  void refuse_or_roll_back(const StepStats& stats);
  void roll_back();
  void find_best_so_far();
  void load_best();
  std::string checkpoint_path(int64_t of_step) const;

  int64_t step() const { return trainer_.num_steps_done(); }  // the last one
  bool is_last() const { return step() == in_.length.num_steps; }
  double epoch() const { return static_cast<double>(step()) / static_cast<double>(in_.length.steps_per_epoch); }

  const StepLoopInput in_;
  RunState state_;  // but for trainer_'s own, while a step is under way
  Trainer trainer_;
  Checkpoints checkpoints_;
  std::unique_ptr<BatchStream> stream_;
  Progress progress_;
  std::optional<EvaluatedStep> evaluated_;  // the last model that was, where the best is looked for
  int64_t memory_bytes_ = 0;
  double start_seconds_ = 0;
};

}  // namespace plumb
