#include "apps/run/state.hpp"

#include <cmath>
#include <utility>

#include "io/file/json_tolerant.hpp"

namespace plumb {

bool is_better(const BestMetric& by, const EvaluatedStep& model, const std::optional<EvaluatedStep>& than) {
  if (std::isnan(model.metric) || !than) return !std::isnan(model.metric);
  return by.is_greater_better ? model.metric > than->metric : model.metric < than->metric;
}

nlohmann::ordered_json to_json(const RunState& state) {
  const StepHistory& history = state.trainer.history;
  nlohmann::ordered_json best;  // null
  if (state.best) best = {{"step", state.best->step}, {"metric", state.best->metric}};
  return {{"total_tokens", state.total_tokens},
          {"num_consecutive_skips", state.trainer.num_consecutive_skips},
          {"rollback_step", state.rollback_step},
          {"rollback_num_steps", state.rollback_num_steps},
          {"num_rollbacks", state.num_rollbacks},
          {"best", best},
          {"source", state.source},
          {"history",
           {{"num_steps", history.num_steps},
            {"loss_mean", history.loss_mean},
            {"loss_variance", history.loss_variance},
            {"grad_norms", history.grad_norms}}}};
}

RunState run_state_from_json(const nlohmann::ordered_json& json, int64_t num_steps_done) {
  RunState state;
  state.trainer.num_steps_done = num_steps_done;
  state.total_tokens = get_count(json, "total_tokens");
  state.trainer.num_consecutive_skips =
      get_count(json, json.contains("num_consecutive_skips") ? "num_consecutive_skips" : "num_skipped_on_end");
  state.rollback_step = get_count(json, "rollback_step");
  state.rollback_num_steps = get_count(json, "rollback_num_steps");
  state.num_rollbacks = get_count(json, "num_rollbacks");
  const nlohmann::ordered_json& best = get_or_null(json, "best");
  if (const std::optional<double> metric = get_number(best, "metric"))
    state.best = EvaluatedStep{get_count(best, "step"), *metric};
  state.source = get_or_null(json, "source");
  const nlohmann::ordered_json& saved = get_or_null(json, "history");
  StepHistory history;
  history.num_steps = get_count(saved, "num_steps");
  history.loss_mean = get_number(saved, "loss_mean").value_or(0);
  history.loss_variance = get_number(saved, "loss_variance").value_or(0);
  for (const nlohmann::ordered_json& norm : get_or_null(saved, "grad_norms"))
    if (norm.is_number() && history.grad_norms.size() < kGradNormsKept)
      history.grad_norms.push_back(norm.get<double>());
  if (!history.grad_norms.empty()) state.trainer.history = std::move(history);
  return state;
}

}  // namespace plumb
