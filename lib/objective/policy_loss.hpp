// The losses of optimizing a policy against rewards as functions of log-probabilities, with their derivatives, in
// float64. Formulas are TRL's (GRPOTrainer and RLOOTrainer 1.16), with one difference: exponentials that overflow in
// TRL are capped at exp(80), where their derivative becomes 0. This file is independent of tensors and batches. Source:
// GRPO arXiv:2402.03300, RLOO 2402.14740, DAPO 2503.14476, Dr. GRPO 2503.20783, GSPO 2507.18071, CISPO 2506.13585, SAPO
// 2511.20347, VESPO 2602.10693; two-sided clipping 2505.07291; off-policy mask and the KL times the ratio,
// DeepSeek-V3.2 2512.02556.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/objective/policy_options.hpp"

namespace plumb {

/// Log-probabilities of the trained tokens of one completion, at the temperature.
struct CompletionLogps {
  std::span<const double> policy;
  std::span<const double> old;        // before the round's first step; empty: the policy's own, so the ratio is 1
  std::span<const double> reference;  // empty if beta is 0
};

/// The loss of one completion, before the weight of its tokens.
struct CompletionLoss {
  double policy = 0;  // sum of the tokens' policy terms; of rloo the one term of the completion
  double kl = 0;      // sum of the tokens' KL terms, before beta
  /// The derivative of policy + beta * kl with respect to each token's log-probability.
  std::vector<double> derivatives;
  // Clipped tokens; with a ratio per completion, 1 or 0 completions.
  int64_t num_low_clipped = 0, num_high_clipped = 0;
  double phi = 0;  // vespo: the completion's weight
};

/// The loss of a completion, which may have no tokens. has_policy_term: one per token, 0: the entropy mask leaves the
/// token without one; empty: all have it.
CompletionLoss completion_loss(const PolicyOptions& options, double advantage, const CompletionLogps& logps,
                               std::span<const uint8_t> has_policy_term = {});

/// The sizes on which the weight of a token depends, except that of its step.
struct TokenWeightInput {
  int64_t completion_tokens = 0;  // trained tokens of its completion
  int64_t batch_completions = 0;  // completions of its micro-batch
  int64_t batch_tokens = 0;       // and their trained tokens
  int64_t round_completions = 0;  // completions of its round
  int64_t round_tokens = 0;       // and their trained tokens
};

/// The weight of each token of a completion in the step's loss, times the number of completions of the step: all
/// reductions of TRL are means over completions if tokens have these weights. Of rloo, the weight of the completion.
double token_weight(const PolicyOptions& options, const TokenWeightInput& input);

/// The value such that a fraction `quantile` of the values are below it, with linear interpolation (as torch.quantile);
/// NaN values do not count. Minus infinity without values.
double linear_quantile(std::vector<double> values, double quantile);

}  // namespace plumb
