// The steps of grpo and rloo: rounds of completions by the trained model or from files, divided into micro-batches with
// their advantages and log-probabilities. Everything in a round follows from seed, round and the weights at its start.
// Where several steps share a round, its file keeps what those weights gave, so that a run continues inside it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "apps/models/adapter_setup.hpp"
#include "apps/models/trained_model.hpp"
#include "apps/options/train_options.hpp"
#include "apps/rollout/recorded_rounds.hpp"
#include "apps/rollout/rollout_maker.hpp"
#include "apps/rollout/round.hpp"
#include "apps/rollout/round_guard.hpp"
#include "apps/train/policy_data.hpp"
#include "apps/train/policy_logps.hpp"
#include "apps/train/step_source.hpp"
#include "lib/objective/grpo.hpp"
#include "partition/communicator.hpp"

namespace plumb {

class PolicySteps : public StepSource {
 public:
  /// All references must outlive this object.
  struct Input {
    const TrainOptions& options;
    const Communicator& comm;
    const TrainedModel& model;
    GrpoObjective& objective;
    const PolicyData& data;
    const HfModel& source;  // the model that training starts from
    const ModelConfig& config;
    const AdapterStart* adapter;  // nullptr: the whole model is trained
  };
  /// Collective: loads what rounds need beside the model. saved: state() after the steps that are done. Throws
  /// AgreedError.
  PolicySteps(const Input& input, int64_t num_steps_done, const nlohmann::ordered_json& saved);

  std::vector<MicroBatch> batches_of(int64_t step) override;
  void finish_step(int64_t step, StepStats& stats) override;
  std::string stop_reason() const override { return stop_reason_; }
  void add_samples(StageNotes& notes) const override;
  void save(int64_t step) override;
  nlohmann::ordered_json state() const override;
  bool has_evaluation() const override { return !in_.data.eval_prompts.prompts.empty(); }
  EvaluationStats evaluate(int64_t step) override;
  std::vector<std::string> evaluated_metrics() const override;

 private:
  void begin_round(int64_t number, int64_t step);
  void continue_round(int64_t number, int64_t step);
  void take_recorded(int64_t number);
  bool take_saved_rewards(int64_t number);
  void add_logps(int64_t step);
  void finish(int64_t step);
  void count_left_out(int64_t step, StepStats& stats) const;
  bool needs_reference() const { return in_.options.rl.beta != 0; }
  bool needs_old_logps() const;
  DocumentForm document_form() const;

  const Input in_;
  const RolloutStageOptions& options_;
  std::optional<RecordedRounds> recorded_;
  std::optional<RolloutMaker> maker_;  // none: rollouts are recorded
  std::optional<ReferencePolicy> reference_;
  Round round_;                  // number 0: none yet
  int64_t num_recorded_ = 0;     // rounds read from recorded_
  std::vector<Metric> metrics_;  // of a round that no step has logged
  bool is_logged_ = true;
  bool is_checked_ = false;  // the start-up check was made, or was not asked for
  RoundGuard guard_;
  std::string stop_reason_;
  int64_t num_tokens_ = 0;  // of the round
  int64_t first_step_ = 0;  // of the round; 0: of an earlier start
};

}  // namespace plumb
