// The state of a run apart from model and log. With it, a run that resumes from a checkpoint makes the same decisions
// as an uninterrupted one. All ranks have the same values.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/options/train_options.hpp"
#include "lib/optim/spikes.hpp"

namespace plumb {

/// The state of the trainer after a step, apart from the model.
struct TrainerState {
  int64_t num_steps_done = 0;
  int64_t num_consecutive_skips = 0;  // skipped steps in a row, up to the last one
  StepHistory history;
};

/// The result of an evaluation.
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
  nlohmann::ordered_json source;      // of what the steps train on (StepSource::state())
};

/// Whether `model` is better than `than`. Any model is better than nullopt, and NaN is never better.
bool is_better(const BestMetric& by, const EvaluatedStep& model, const std::optional<EvaluatedStep>& than);

/// Everything except trainer.num_steps_done, which the checkpoint stores.
nlohmann::ordered_json to_json(const RunState& state);
/// Accepts any JSON: values that are missing or not numbers are those of a new run.
RunState run_state_from_json(const nlohmann::ordered_json& json, int64_t num_steps_done);

}  // namespace plumb
