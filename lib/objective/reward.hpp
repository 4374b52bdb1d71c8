// Reward modelling: one number for a text, learnt from pairs of which one is better (Bradley-Terry). Metric names and
// meanings are TRL's (RewardTrainer). A reward is computed from one row, that of its document's last token which is no
// padding, alone and in float32: it does not depend on padding, on the other documents, or on where they stand. Where
// the padding token also ends texts, that is the token before the end, as in transformers.
#pragma once

#include <optional>
#include <vector>

#include "lib/objective/objective.hpp"

namespace plumb {

/// score . rms_norm(hidden at the last token that is not pad_token_id, -1: none) of each document, in float32; none of an empty micro-batch. Documents
/// need not be pairs. parameters.head_VD is the score's weight [1, D].
std::vector<float> document_rewards(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                    double norm_epsilon, int32_t pad_token_id);

/// The weight is the number of pairs. Loss of a pair: -log sigmoid(chosen - rejected - margin), and with a coefficient
/// that times (chosen + rejected)^2, which keeps rewards about zero.
class RewardObjective : public Objective {
 public:
  RewardObjective(double norm_epsilon, int32_t pad_token_id, std::optional<double> center_rewards_coefficient);

  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums no_sums() const override;
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

 private:
  double norm_epsilon_;
  int32_t pad_token_id_;
  double center_rewards_coefficient_;
};

}  // namespace plumb
