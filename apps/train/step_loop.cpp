#include "apps/train/step_loop.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "apps/run/output_directory.hpp"
#include "apps/train/bad_steps.hpp"
#include "apps/train/wrong_numbers.hpp"
#include "io/checkpoint/directory.hpp"
#include "io/file/file.hpp"
#include "io/run/process_memory.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/fault.hpp"
#include "lib/base/log.hpp"

namespace plumb {

int64_t sum_of_memory(const Communicator& comm) {
  int64_t bytes = proportional_set_bytes();
  comm.sum({&bytes, 1});
  return bytes;
}

StepLoop::StepLoop(const StepLoopInput& input)
    : in_(input),
      state_(in_.start.saved ? in_.start.saved->state : RunState()),
      trainer_(in_.model, in_.comm, in_.objective, in_.options.trainer, state_.trainer),
      checkpoints_(in_.options.checkpoints, in_.start.inputs, in_.comm, in_.model, in_.control, in_.room, state_) {}

bool StepLoop::run() {
  find_best_so_far();
  start_seconds_ = steady_seconds();
  if (!is_last()) in_.room.take();
  while (!is_last()) take_step();
  progress_.finish_line();
  const bool is_saved = save_last_step();
  trainer_.verify_memory();  // before the model is exported
  if (in_.options.loads_best_model) load_best();
  return is_saved;
}

void StepLoop::take_step() {
  const double step_start = steady_seconds();
  const std::vector<MicroBatch> batches = next_batches();
  StepStats stats = trainer_.step(batches);
  in_.source.finish_step(step(), stats);
  state_.total_tokens += stats.num_new_tokens.value_or(stats.num_tokens);
  log_step(batches, stats, steady_seconds() - step_start);
  if (stats.is_skipped()) stop_or_roll_back(stats);

  if (is_evaluation_due()) evaluate();
  checkpoints_.poll();
  stop_at_limit();
  const bool is_to_stop = stats.reports.is_stop_wanted && !is_last();
  if (checkpoints_.is_due(step()) || is_to_stop) save();
  fault_point("step", step());
  if (is_to_stop) in_.control.stop(step(), checkpoints_.finish() == step());
}

/// The micro-batches of this rank for the next step.
std::vector<MicroBatch> StepLoop::next_batches() {
  const Phase phase("data", step() + 1);
  std::vector<MicroBatch> batches = in_.source.batches_of(step() + 1);
  inject_wrong_numbers("data", step() + 1, batches, in_.model);
  return batches;
}

/// Collective: saves the run after this step.
void StepLoop::save() {
  const Phase phase("save", step());
  progress_.finish_line();
  state_.trainer = trainer_.state();
  state_.source = in_.source.state();
  inject_wrong_numbers("save", step(), {}, in_.model);
  trainer_.verify_memory();
  in_.source.save(step());
  checkpoints_.save(step(), evaluated_, in_.log);
}

/// Collective: see run().
bool StepLoop::save_last_step() {
  const auto is_saved = [&] { return checkpoints_.finish() == step() || in_.start.num_steps_done() == step(); };
  if (is_saved()) return true;
  save();
  while (!is_saved()) {
    if (!in_.room.wait_for_checkpoint(step(), in_.control)) return false;
    save();
  }
  return true;
}

void StepLoop::log_step(const std::vector<MicroBatch>& batches, const StepStats& stats, double step_seconds) {
  const bool is_logged = step() % in_.options.logging_steps == 0 || step() == 1 || is_last();
  if (is_logged) memory_bytes_ = sum_of_memory(in_.comm);
  for (const Metric& metric : stats.metrics)
    if (metric.name == "reward") reward_ = metric.value;
  const double seconds = steady_seconds() - start_seconds_;
  const ProgressState progress{step(),
                               in_.length.num_steps,
                               epoch(),
                               stats.loss(),
                               stats.grad_norm,
                               stats.learning_rate,
                               static_cast<double>(stats.num_tokens) / step_seconds,
                               seconds / static_cast<double>(step() - in_.start.num_steps_done()) *
                                   static_cast<double>(in_.length.num_steps - step()),
                               memory_bytes_,
                               reward_};
  in_.control.add_step(progress, stats.reports.picoseconds_per_token, step_seconds);
  if (stats.is_skipped()) {
    progress_.finish_line();
    log_skipped_step(in_.comm, batches, stats, step(), epoch(), in_.log);
  }
  if (!in_.log) return;
  if (!stats.is_skipped()) {
    in_.log->add(stats, step_seconds);
    if (is_logged) in_.log->write(stats, step(), epoch(), state_.total_tokens, memory_bytes_);
  }
  progress_.show(progress, is_logged);
}

bool StepLoop::is_evaluation_due() const {
  const int64_t every = in_.options.eval_steps > 0 ? in_.options.eval_steps : in_.length.steps_per_epoch;
  return in_.source.has_evaluation() && (step() % every == 0 || is_last());
}

/// Collective: logs the stage's metrics on the evaluation rows and writes them to metrics.jsonl.
void StepLoop::evaluate() {
  const Phase phase("evaluation", step());
  const EvaluationStats stats = in_.source.evaluate(step());
  if (const std::optional<BestMetric>& best = in_.options.checkpoints.best_metric)
    evaluated_ = EvaluatedStep{step(), stats.metric(best->name)};
  if (!in_.log) return;
  progress_.finish_line();
  log_info("evaluation: {}", render_metrics(stats.metrics));
  in_.log->write(stats, step(), epoch());
}

/// Collective: throws NumericError where the source ends the run before the last step.
void StepLoop::stop_at_limit() {
  const std::string reason = in_.source.stop_reason();
  if (reason.empty() || is_last()) return;
  save();
  checkpoints_.finish();
  throw_error<NumericError>(
      "step {}: {}, so the run ends after a checkpoint; with a higher limit the same command continues from there, "
      "with a lower --learning_rate or a higher --beta and --overwrite_output_dir it begins again",
      step(), reason);
}

/// Collective, after a skipped step: continues, rolls back, or throws NumericError.
void StepLoop::stop_or_roll_back(const StepStats& stats) {
  const OnBadSteps reaction = in_.options.on_bad_steps;
  const int64_t num_in_a_row = trainer_.state().num_consecutive_skips;
  if (num_in_a_row <= (reaction == OnBadSteps::kStop ? 0 : kMaxConsecutiveSkips)) return;
  const std::string what =
      fmt::format("step {}: {}, so it was skipped{}", step(), stats.skip_reason,
                  reaction == OnBadSteps::kStop ? "" : fmt::format(", the last of {} in a row", num_in_a_row));
  if (reaction != OnBadSteps::kRollback)
    throw_error<NumericError>("{}; try a lower --learning_rate, or inspect the rows with plumb inspect", what);
  checkpoints_.finish();  // the save in progress may be the one to roll back to
  if (state_.rollback_step == 0)
    throw_error<NumericError>("{}, and there is no earlier checkpoint to roll back to", what);
  if (state_.num_rollbacks == kMaxRollbacks)
    throw_error<NumericError>("{}, after {} rollbacks to step {}; try a lower --learning_rate", what,
                              state_.num_rollbacks, state_.rollback_step);
  roll_back();
}

/// Collective: restores the model of a checkpoint. Steps keep counting, so the rows since that checkpoint are skipped.
void StepLoop::roll_back() {
  const std::optional<Checkpoint> checkpoint =
      open_newest_checkpoint(in_.comm, in_.options.checkpoints.output_dir, in_.start.inputs, state_.rollback_step);
  if (!checkpoint) throw AgreedError("no usable checkpoint to roll back to", kExitData);
  restore_model(in_.comm, *checkpoint, in_.model);
  trainer_.resume_from({step(), 0, SavedRun(*checkpoint).state.trainer.history});
  ++state_.num_rollbacks;
  if (!in_.log) return;
  log_warning("step {}: rolled back to the checkpoint of step {}; continuing with the rows of step {}", step(),
              checkpoint->manifest.step, step() + 1);
  in_.log->write_rollback(step(), epoch(), checkpoint->manifest.step);
}

/// Collective: throws for a metric that the stage does not have, and forgets a best checkpoint that no longer exists.
void StepLoop::find_best_so_far() {
  const std::optional<BestMetric>& best = in_.options.checkpoints.best_metric;
  if (!best) return;
  const bool is_missing = in_.comm.from_rank0([&] {
    const std::vector<std::string> names = in_.source.evaluated_metrics();
    if (std::find(names.begin(), names.end(), best->name) == names.end())
      throw_not_one_of("metric_for_best_model", best->name, names);
    if (!state_.best || is_directory(checkpoint_path(state_.best->step))) return false;
    log_warning("the best checkpoint, of step {}, is missing: only later ones are compared", state_.best->step);
    return true;
  });
  if (is_missing) state_.best.reset();
}

/// Collective, after the last step and its evaluation: restores the best model.
void StepLoop::load_best() {
  // the last model may have been evaluated and compared by an earlier start
  const std::optional<BestMetric>& by = in_.options.checkpoints.best_metric;
  if (!by || !state_.best || (evaluated_ && is_better(*by, *evaluated_, state_.best))) return;
  if (state_.best->step == step()) return;
  const Checkpoint checkpoint = open_checkpoint(in_.comm, checkpoint_path(state_.best->step));
  require_same_run(in_.comm, checkpoint, in_.start.inputs);
  restore_model(in_.comm, checkpoint, in_.model);
  if (in_.comm.rank() == 0)
    log_info("the best model is that after step {}: eval_{} {:.6g}", state_.best->step, by->name, state_.best->metric);
}

std::string StepLoop::checkpoint_path(int64_t of_step) const {
  return join_path(checkpoint_directory(in_.options.checkpoints.output_dir), checkpoint_name(of_step));
}

}  // namespace plumb
