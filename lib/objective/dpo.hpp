// Direct preference optimization: losses of the log-probabilities of whole answers relative to a reference model, whose
// log-probabilities are computed before training. Combines token_loss (log-probabilities) with preference_loss
// (formulas), and computes TRL's metrics (DPOTrainer).
// Source: arXiv:2305.18290.
#pragma once

#include <vector>

#include "lib/objective/objective.hpp"
#include "lib/objective/preference_loss.hpp"

namespace plumb {

/// Forward only: the log-probabilities of every document of a micro-batch of pairs, such as those of the reference
/// model; empty for an empty micro-batch.
std::vector<SequenceLogps> sequence_logps(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                          const HeadTensors& parameters, const OutputConfig& output,
                                          TokenLossScratch& scratch);

/// The weight is the number of pairs. The sft term of a combined loss is a mean over the trained tokens of the chosen
/// answers in the global batch; TRL takes the mean over those in a device's batch.
class DpoObjective : public Objective {
 public:
  /// Throws UsageError as validate(DpoOptions) does.
  DpoObjective(DpoOptions options, const OutputConfig& output);

  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums empty_sums() const override;
  std::vector<int64_t> read_rows(const MicroBatch& batch) const override { return predicting_rows(batch); }
  /// Micro-batches must hold pairs with reference_logps.
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

  bool needs_global_statistics() const override { return options_.needs_all_pairs(); }
  std::vector<double> statistics_of(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                    const HeadTensors& parameters) override;
  void set_global_statistics(const std::vector<std::vector<double>>& statistics) override;

 private:
  DpoOptions options_;
  OutputConfig output_;
  TokenLossScratch scratch_;
  std::vector<std::vector<PairLoss>> statistics_;  // loss of each pair, by MicroBatch::number
};

}  // namespace plumb
