// The state of a run beside model and log. With it, a run that resumes from a checkpoint decides like one that was
// never stopped. All ranks have the same values.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/options/train_options.hpp"
#include "lib/optim/spikes.hpp"

namespace plumb {

/// The state of the trainer after a step, beside the model.
struct TrainerState {
  int64_t num_steps_done = 0;
  int64_t num_consecutive_skips = 0;  // the last steps in a row that changed nothing
  StepHistory history;
};

/// A model that was evaluated.
struct EvaluatedStep {
  int64_t step = 0;
  double metric = 0;  // value of best_metric()
};

struct RunState {
  TrainerState trainer;
  int64_t total_tokens = 0;
  int64_t rollback_step = 0;          // of the checkpoint that a rollback would restore; 0: none yet
  int64_t rollback_num_steps = 0;     // in the history of that checkpoint
  int64_t num_rollbacks = 0;          // to that checkpoint
  std::optional<EvaluatedStep> best;  // among the steps with a checkpoint
};

/// Whether `model` is better than `than`; any model is better than none, and NaN is never better.
bool is_better(const BestMetric& by, const EvaluatedStep& model, const std::optional<EvaluatedStep>& than);

/// Without trainer.num_steps_done, which the checkpoint stores.
nlohmann::ordered_json to_json(const RunState& state);
/// Accepts any JSON: a missing value, or one that is not a number, is as at the start of a run.
RunState run_state_from_json(const nlohmann::ordered_json& json, int64_t num_steps_done);

}  // namespace plumb
