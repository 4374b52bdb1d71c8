// When a run saves what it needs to go on, and what happens where that fails: it is said and counted, and training goes
// on with the checkpoints that are there.
#pragma once

#include <chrono>
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
#include "apps/train/step_log.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

class Checkpoints {
 public:
  /// state: what is saved, and told which checkpoint a rollback would take. All references must outlive this object.
  Checkpoints(const TrainOptions& options, const Inputs& inputs, const Communicator& comm, TrainableModel& model,
              RunControl& control, RunState& state);

  /// Whether --save_steps asks for a checkpoint after this step.
  bool is_due(int64_t step) const;

  /// Collective: saves the run as it is after this step, then removes old checkpoints. With --async_save this returns
  /// when a copy is made and a thread writes it; one that is still being written is waited for. log: rank 0's. A disk
  /// that refuses is said and counted; any other fault is thrown. evaluated: the last model that was.
  void save(int64_t step, const std::optional<EvaluatedStep>& evaluated, const StepLog* log);

  /// Collective, after every step: gives a checkpoint that all ranks have written its name.
  void poll();

  /// Collective: waits for a checkpoint that is being written, if any. Returns the step of the last one saved, or 0.
  int64_t finish();

 private:
  void prune(int64_t step) const;
  void count_failure(int64_t step, const AgreedError& error);

  const TrainOptions& options_;
  const Inputs& inputs_;
  const Communicator& comm_;
  TrainableModel& model_;
  RunControl& control_;
  RunState& state_;
  RunState saved_;  // as the save under way has it
  std::string directory_;
  int64_t num_failed_ = 0;
  int64_t last_saved_step_ = 0;
  std::vector<std::byte> buffer_;  // what a thread writes
  double stall_seconds_ = 0;       // that the save under way cost its step
  std::chrono::steady_clock::time_point start_;
  std::unique_ptr<CheckpointSave> under_way_;  // after buffer_, which its thread reads
};

}  // namespace plumb
