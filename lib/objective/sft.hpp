// Supervised fine-tuning: the loss of trained tokens and what is logged about it, as sums with a weight, never means.
// Metric names and meanings are TRL's (SFTTrainer).
#pragma once

#include "lib/base/exact_sum.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

struct SftSums {
  ExactSum loss;
  ExactSum entropy;
  int64_t num_correct = 0;
  int64_t num_trained_tokens = 0;  // the weight
  int64_t num_tokens = 0;
  int64_t num_documents = 0;  // that have a trained token
  /// Of those, the ones whose every trained token is the likeliest one: exactly the documents whose greedy continuation
  /// is the trained text, since each greedy step then sees the right tokens before it.
  int64_t num_exact_documents = 0;

  void add(const TokenStats& token);
};

/// Loss and metrics of one micro-batch are added to `sums`; see token_loss() for the rest.
at::Tensor sft_objective(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                         const HeadTensors* gradients, double norm_epsilon, TokenLoss kind, double gradient_scale,
                         TokenLossScratch& scratch, SftSums& sums);

/// Trained tokens that some token before them predicts: the weight of a micro-batch.
int64_t count_targets(const MicroBatch& batch);

}  // namespace plumb
