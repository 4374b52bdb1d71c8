// Reward modeling: a scalar reward for a text, learned from pairs of a better and a worse text (Bradley-Terry). Metric
// names and meanings are TRL's (RewardTrainer). A reward is computed from one row of its document, separately and in
// float32, so it does not depend on padding, on other documents, or on the document's position in the batch.
// The row is that of the last token that is not the pad token, as in transformers' *ForSequenceClassification and
// therefore in TRL: if the pad token is also the end-of-text token, a text is scored one token before its end.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/objective/objective.hpp"

namespace plumb {

/// The row that is scored, for each document: that of the last token other than `pad_token_id`; of the last token if
/// there is no pad token; of the first token if all are pad tokens.
std::vector<int64_t> scored_positions(const MicroBatch& batch, std::optional<int64_t> pad_token_id);

/// The same rows sorted and unique: all that document_rewards() reads.
std::vector<int64_t> scored_rows(const MicroBatch& batch, std::optional<int64_t> pad_token_id);

/// The reward of each document, score . rms_norm(hidden) of its scored row, in float32; empty for an empty micro-batch.
/// Documents need not be pairs. parameters.head_VD: the score's weight [1, D].
std::vector<float> document_rewards(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                    const OutputConfig& output, std::optional<int64_t> pad_token_id);

/// The weight is the number of pairs. The loss of a pair is -log sigmoid(chosen - rejected - margin), plus
/// center_rewards_coefficient * (chosen + rejected)^2, which keeps rewards near zero.
class RewardObjective : public Objective {
 public:
  /// pad_token_id: from the model's config.json. Throws UsageError for a coefficient that is negative or not finite.
  RewardObjective(const OutputConfig& output, std::optional<double> center_rewards_coefficient,
                  std::optional<int64_t> pad_token_id);

  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums empty_sums() const override;
  std::vector<int64_t> read_rows(const MicroBatch& batch) const override { return scored_rows(batch, pad_token_id_); }
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

 private:
  OutputConfig output_;
  double center_rewards_coefficient_;
  std::optional<int64_t> pad_token_id_;
};

}  // namespace plumb
