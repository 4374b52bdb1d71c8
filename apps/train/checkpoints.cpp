#include "apps/train/checkpoints.hpp"

#include <ATen/Parallel.h>

#include <utility>

#include "apps/run/output_directory.hpp"
#include "apps/train/bad_steps.hpp"
#include "io/checkpoint/directory.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"

namespace plumb {

Checkpoints::Checkpoints(const CheckpointOptions& options, const Inputs& inputs, const Communicator& comm,
                         TrainableModel& model, RunControl& control, RoomForEnd& room, RunState& state)
    : options_(options),
      inputs_(inputs),
      comm_(comm),
      model_(model),
      control_(control),
      room_(room),
      state_(state),
      directory_(checkpoint_directory(options.output_dir)) {}

bool Checkpoints::is_due(int64_t step) const { return options_.save_steps > 0 && step % options_.save_steps == 0; }

void Checkpoints::save(int64_t step, const std::optional<EvaluatedStep>& evaluated, StepLog* log) {
  finish();
  room_.give_back_for_checkpoint();
  saved_ = state_;
  const int64_t num_steps = state_.trainer.history.num_steps;
  if (is_due(step) && state_.trainer.num_consecutive_skips == 0 && num_steps > state_.rollback_num_steps) {
    saved_.rollback_step = step;  // not for a save at a stop, which an uninterrupted run would not have
    saved_.rollback_num_steps = num_steps;
    saved_.num_rollbacks = 0;
  }
  if (evaluated && evaluated->step == step && is_better(*options_.best_metric, *evaluated, state_.best))
    saved_.best = evaluated;
  start_seconds_ = steady_seconds();
  try {
    nlohmann::ordered_json run;
    comm_.run_on_rank0([&] {
      log->sync();
      run = {{"inputs", inputs_to_json(inputs_)},
             {"threads_per_rank", at::get_num_threads()},
             {"state", to_json(saved_)},
             {"log", log->state()}};
    });
    save_in_progress_ = std::make_unique<CheckpointSave>(
        comm_, directory_, step, std::move(run), model_.trained_shards(), options_.is_async ? &buffer_ : nullptr);
  } catch (const AgreedError& error) {
    count_failure(step, error);
    return;
  }
  stall_seconds_ = steady_seconds() - start_seconds_;
  if (!options_.is_async) finish();
}

void Checkpoints::poll() {
  if (save_in_progress_ && !comm_.any(!save_in_progress_->is_written())) finish();
}

int64_t Checkpoints::finish() {
  if (!save_in_progress_) return last_saved_step_;
  const std::unique_ptr<CheckpointSave> save = std::move(save_in_progress_);
  try {
    save->finish();
  } catch (const AgreedError& error) {
    count_failure(save->step(), error);
    return last_saved_step_;
  }
  last_saved_step_ = save->step();
  state_.rollback_step = saved_.rollback_step;
  state_.rollback_num_steps = saved_.rollback_num_steps;
  state_.num_rollbacks = saved_.num_rollbacks;
  state_.best = saved_.best;
  const double seconds = steady_seconds() - start_seconds_;
  control_.add_save(save->step(), seconds);
  if (comm_.rank() == 0) {
    const std::string stall = options_.is_async ? fmt::format("; training waited {:.3f} s", stall_seconds_) : "";
    log_info("checkpoint: {}/{} in {:.1f} s{}", directory_, checkpoint_name(save->step()), seconds, stall);
    prune(save->step());
  }
  room_.take();
  return last_saved_step_;
}

void Checkpoints::count_failure(int64_t step, const AgreedError& error) {
  if (error.code() != kExitInputOutput) throw error;
  ++num_failed_;
  room_.take();
  if (comm_.rank() == 0)
    log_warning("saving the checkpoint of step {} failed (failure {}); training continues: {}", step, num_failed_,
                error.what());
}

void Checkpoints::prune(int64_t step) const {
  std::vector<int64_t> kept_steps;
  if (options_.is_rollback_wanted) kept_steps.push_back(state_.rollback_step);
  if (state_.best) kept_steps.push_back(state_.best->step);
  try {
    const Phase phase("checkpoint-pruning", step);
    prune_checkpoints(directory_, step, options_.save_total_limit, kept_steps);
  } catch (const InputOutputError& error) {
    log_warning("old checkpoints could not be removed: {}", error.what());
  }
}

}  // namespace plumb
