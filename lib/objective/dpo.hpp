// Direct preference optimization: losses of the log-probabilities of whole answers, against those that a reference
// model gave them before training. What the log-probabilities are comes from token_loss, what is lost from
// preference_loss; here they meet, with TRL's metrics (DPOTrainer). Source: arXiv:2305.18290.
#pragma once

#include <vector>

#include "lib/objective/objective.hpp"
#include "lib/objective/preference_loss.hpp"

namespace plumb {

/// Of every document of a micro-batch of pairs; none of an empty one. Forward only: what a reference model makes of it.
std::vector<SequenceLogps> sequence_logps(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                          const HeadTensors& parameters, double norm_epsilon,
                                          TokenLossScratch& scratch);

/// The weight is the number of pairs. The sft term of a mix is a mean over the trained tokens of the global batch's
/// chosen answers, where TRL's is one over those of a device's batch.
class DpoObjective : public Objective {
 public:
  /// Throws as validate(DpoOptions) does.
  DpoObjective(DpoOptions options, double norm_epsilon);

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
  double norm_epsilon_;
  TokenLossScratch scratch_;
  std::vector<std::vector<PairLoss>> statistics_;  // of each pair of each micro-batch, by its number
};

}  // namespace plumb
