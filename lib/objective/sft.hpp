// Supervised fine-tuning: the loss of trained tokens and its metrics, as sums with a weight, never means. Metric names
// and meanings are TRL's (SFTTrainer).
#pragma once

#include <vector>

#include "lib/objective/objective.hpp"

namespace plumb {

class SftObjective : public Objective {
 public:
  SftObjective(const OutputConfig& output, TokenLoss token_loss) : output_(output), token_loss_(token_loss) {}

  /// The number of trained tokens, except first tokens of documents, which no position predicts.
  BatchWeight weigh(const MicroBatch& batch) const override;
  ObjectiveSums empty_sums() const override;
  std::vector<int64_t> read_rows(const MicroBatch& batch) const override { return predicting_rows(batch); }
  at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                   const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) override;
  /// loss, entropy, mean_token_accuracy; in an evaluation also exact_match: the fraction of documents whose trained
  /// tokens are all the most likely ones. For these, and only these, greedy decoding yields the trained text, since
  /// each greedy step then sees the correct tokens before it.
  std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const override;

 private:
  OutputConfig output_;
  TokenLoss token_loss_;
  TokenLossScratch scratch_;
};

}  // namespace plumb
