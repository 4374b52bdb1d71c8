// Checkpoints of a run: when they are saved, and what happens if that fails. A failed save is logged and counted, and
// training continues with the checkpoints that exist.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/train_options.hpp"
#include "apps/run/control.hpp"
#include "apps/run/inputs.hpp"
#include "apps/run/saved_run.hpp"
#include "apps/run/state.hpp"
#include "apps/train/room_for_end.hpp"
#include "apps/train/step_log.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

struct CheckpointOptions {
  std::string output_dir;
  int64_t save_steps;        // steps between checkpoints; 0: none but at a stop and before the export
  int64_t save_total_limit;  // of checkpoints that are kept, beside those that a rollback or the best model needs
  bool is_async;             // a thread writes while training continues
  bool is_rollback_wanted;
  std::optional<BestMetric> best_metric;  // none: no best model is wanted
};

class Checkpoints {
 public:
  /// state: saved with each checkpoint; its rollback and best steps are updated here. All references must outlive this
  /// object.
  Checkpoints(const CheckpointOptions& options, const Inputs& inputs, const Communicator& comm, TrainableModel& model,
              RunControl& control, RoomForEnd& room, RunState& state);

  /// Whether --save_steps asks for a checkpoint after this step.
  bool is_due(int64_t step) const;

  /// Collective: saves the run after this step, then removes old checkpoints. With --async_save this returns when a
  /// copy was made, which a thread writes; an earlier save that is still being written is completed first. evaluated:
  /// the last evaluation. log: rank 0's. An input or output error is logged and counted; any other error is thrown.
  void save(int64_t step, const std::optional<EvaluatedStep>& evaluated, StepLog* log);

  /// Collective, after every step: publishes the checkpoint in progress if all ranks have written it.
  void poll();

  /// Collective: completes the save in progress, if any. Returns the step of the last checkpoint saved, or 0.
  int64_t finish();

 private:
  void prune(int64_t step) const;
  void count_failure(int64_t step, const AgreedError& error);

  const CheckpointOptions& options_;
  const Inputs& inputs_;
  const Communicator& comm_;
  TrainableModel& model_;
  RunControl& control_;
  RoomForEnd& room_;
  RunState& state_;
  RunState saved_;  // in the save in progress
  std::string directory_;
  int64_t num_failed_ = 0;
  int64_t last_saved_step_ = 0;
  std::vector<std::byte> buffer_;                     // the copy that a thread writes
  double stall_seconds_ = 0;                          // how long the save in progress delayed its step
  double start_seconds_ = 0;                          // of the save in progress
  std::unique_ptr<CheckpointSave> save_in_progress_;  // declared after buffer_, which its thread reads
};

}  // namespace plumb
