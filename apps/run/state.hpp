// What a run carries from step to step beside model and log; with it a run that goes on from a checkpoint decides as
// one that was never stopped. The numbers are those that all ranks have alike.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/options/train_options.hpp"
#include "lib/optim/spikes.hpp"

namespace plumb {

/// What a step leaves behind beside the model.
struct TrainerState {
  int64_t num_steps_done = 0;
  int64_t num_consecutive_skips = 0;  // the last so many changed nothing
  StepHistory history;
};

/// A model that was evaluated.
struct EvaluatedStep {
  int64_t step = 0;
  double metric = 0;  // of best_metric()
};

struct RunState {
  TrainerState trainer;
  int64_t total_tokens = 0;
  int64_t rollback_step = 0;          // of the checkpoint that a rollback goes back to; 0: there is none yet
  int64_t rollback_num_steps = 0;     // that its history had
  int64_t num_rollbacks = 0;          // to that one
  std::optional<EvaluatedStep> best;  // of those with a checkpoint
};

/// Whether the first of two models is the better one; none: any model is better. NaN never is.
bool is_better(const TrainOptions& options, const EvaluatedStep& model, const std::optional<EvaluatedStep>& than);

/// Without trainer.num_steps_done, which the checkpoint knows.
nlohmann::ordered_json to_json(const RunState& state);
/// Takes anything: what is not there, or no number, is as at the start of a run.
RunState run_state_from_json(const nlohmann::ordered_json& json, int64_t num_steps_done);

}  // namespace plumb
