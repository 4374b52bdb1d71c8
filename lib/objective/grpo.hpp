// Group relative policy optimization and its relatives, and RLOO: losses of completions by the policy itself, weighted
// by advantages (advantages.hpp). Combines token_loss (log-probabilities, entropies) with policy_loss (formulas), and
// computes TRL's metrics (GRPOTrainer, RLOOTrainer).
// Source: arXiv:2402.03300, arXiv:2402.14740.
#pragma once

#include <limits>
#include <vector>

#include "lib/objective/objective.hpp"
#include "lib/objective/policy_loss.hpp"
#include "lib/objective/policy_options.hpp"

namespace plumb {

/// The output whose logits are those of `output` divided by the temperature.
OutputConfig at_temperature(OutputConfig output, double temperature);

/// Forward only: the log-probability of every target of a micro-batch in the order of find_targets(), for old_logps and
/// reference_token_logps. NaN where a logit was not finite. output: at_temperature().
std::vector<float> token_logps(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                               const OutputConfig& output, TokenLossScratch& scratch);

/// The stages grpo and rloo. The weight is the number of completions. The loss of bnpo and the entropy bonus depend on
/// the size of micro-batches, nothing on ranks. Metrics are means over the tokens of the step (or completions, where
/// each has one ratio), and the extremes over its completions; TRL takes the mean of both over its micro-batches.
class GrpoObjective : public Objective {
 public:
  /// output: that of the model; the temperature is applied here. Throws UsageError as validate(PolicyOptions) does.
  GrpoObjective(const PolicyOptions& options, const OutputConfig& output);

  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums empty_sums() const override;
  std::vector<int64_t> read_rows(const MicroBatch& batch) const override { return predicting_rows(batch); }
  /// Micro-batches must have advantages and the size of their round, and reference_token_logps if beta is not 0. They
  /// may leave out completions if nothing but policy terms has a gradient; of vespo, only with ratios of 1.
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  /// loss, entropy; kl with a reference; clip_ratio/*, cispo_clip_ratio or vespo/phi_seq_mean by loss; with the entropy
  /// bonus policy_loss, entropy_coef and, if it adapts, entropy_control/entropy.
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

  /// The entropies of all tokens, for the entropy mask.
  bool needs_global_statistics() const override { return options_.has_entropy_mask(); }
  std::vector<double> statistics_of(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                    const HeadTensors& parameters) override;
  void set_global_statistics(const std::vector<std::vector<double>>& statistics) override;

  /// The state of the entropy bonus. After a step that counted, with use_adaptive_entropy, the caller sets
  /// next_entropy_control(options, entropy_control(), StepStats::metric("entropy_control/entropy")) on every rank.
  const EntropyControl& entropy_control() const { return entropy_control_; }
  void set_entropy_control(const EntropyControl& control) { entropy_control_ = control; }

 private:
  PolicyOptions options_;
  OutputConfig output_;  // at the temperature
  TokenLossScratch scratch_;
  EntropyControl entropy_control_;
  double lowest_entropy_ = -std::numeric_limits<double>::infinity();  // of a token with a policy term
};

}  // namespace plumb
