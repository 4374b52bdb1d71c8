// Reward modeling: one number for a text, learned from pairs of which one is better (Bradley-Terry). Metric names and
// meanings are TRL's (RewardTrainer). A reward is computed from one row of its document, alone and in float32: it does
// not depend on padding, on the other documents, or on where they stand.
// The row is that of the last token which is not the pad token, as transformers' *ForSequenceClassification has it and
// TRL therefore trains it: where the pad token is also the end-of-text token, a text is judged one token before its
// end.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/objective/objective.hpp"

namespace plumb {

/// The rows that give the documents' rewards: of the last token other than `pad_token_id`, or of the last token without
/// one; of a document of pad tokens alone, its first.
std::vector<int64_t> scored_positions(const MicroBatch& batch, std::optional<int64_t> pad_token_id);

/// Those rows sorted, each once: what document_rewards() looks at.
std::vector<int64_t> scored_rows(const MicroBatch& batch, std::optional<int64_t> pad_token_id);

/// score . rms_norm(hidden) of each document's scored position, in float32; none of an empty micro-batch. Documents
/// need not be pairs. parameters.head_VD is the score's weight [1, D].
std::vector<float> document_rewards(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                    double norm_epsilon, std::optional<int64_t> pad_token_id);

/// The weight is the number of pairs. Loss of a pair: -log sigmoid(chosen - rejected - margin), and with a coefficient
/// that times (chosen + rejected)^2, which keeps rewards about zero.
class RewardObjective : public Objective {
 public:
  /// pad_token_id: of the model's config.json. UsageError for a negative coefficient.
  RewardObjective(double norm_epsilon, std::optional<double> center_rewards_coefficient,
                  std::optional<int64_t> pad_token_id);

  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums empty_sums() const override;
  std::vector<int64_t> read_rows(const MicroBatch& batch) const override { return scored_rows(batch, pad_token_id_); }
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

 private:
  double norm_epsilon_;
  double center_rewards_coefficient_;
  std::optional<int64_t> pad_token_id_;
};

}  // namespace plumb
