// When a run saves what it needs to go on, and what happens where that fails: it is said and counted, and training goes
// on with the checkpoints that are there.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "apps/run_control.hpp"
#include "apps/run_inputs.hpp"
#include "apps/step_log.hpp"
#include "apps/train_options.hpp"
#include "io/checkpoint.hpp"
#include "partition/communicator.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

class Checkpoints {
 public:
  /// All references must outlive this object.
  Checkpoints(const TrainOptions& options, const Inputs& inputs, const Communicator& comm, TrainableModel& model,
              RunControl& control);

  /// Whether --save_steps asks for a checkpoint after this step.
  bool is_due(int64_t step) const;

  /// Collective: saves the run as it is after this step, then removes old checkpoints. With --async_save this returns
  /// when a copy is made and a thread writes it; one that is still being written is waited for. log: rank 0's. A disk
  /// that refuses is said and counted; any other fault is thrown.
  void save(int64_t step, int64_t total_tokens, const StepLog* log);

  /// Collective, after every step: gives a checkpoint that all ranks have written its name.
  void poll();

  /// Collective: waits for a checkpoint that is being written, if any. Returns the step of the last one saved, or 0.
  int64_t finish();

  int64_t num_failed() const { return num_failed_; }

 private:
  void prune(int64_t step) const;
  void count_failure(int64_t step, const AgreedError& error);

  const TrainOptions& options_;
  const Inputs& inputs_;
  const Communicator& comm_;
  TrainableModel& model_;
  RunControl& control_;
  std::string directory_;
  int64_t num_failed_ = 0;
  int64_t last_saved_step_ = 0;
  std::vector<std::byte> buffer_;  // what a thread writes
  double stall_seconds_ = 0;       // that the save under way cost its step
  std::chrono::steady_clock::time_point start_;
  std::unique_ptr<CheckpointSave> under_way_;  // after buffer_, which its thread reads
};

/// What a checkpoint holds of a run beside the model. Throws DataError where it is no checkpoint of a training run.
struct SavedRun {
  explicit SavedRun(const Checkpoint& checkpoint);

  Inputs inputs;
  int threads_per_rank = 0;
  int64_t total_tokens = 0;
  nlohmann::ordered_json log;  // StepLog::state()
};

/// Collective: the model as it was, on any number of ranks.
void restore_model(const Communicator& comm, const Checkpoint& checkpoint, TrainableModel& model);

}  // namespace plumb
