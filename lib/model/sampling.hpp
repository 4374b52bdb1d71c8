// Chooses the next token: a pure function of the logits, the options and one random number, so that a text can be
// reproduced from its seed.
// Source: the order repetition penalty, temperature, top_k, top_p, min_p of transformers' logits processors; top-p is
// Holtzman et al., arXiv:1904.09751; min-p arXiv:2407.01082; the penalty CTRL, arXiv:1909.05858.
#pragma once

#include <cstdint>
#include <span>

namespace plumb {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy
  int64_t top_k = 0;              // only the k most likely tokens; 0: all
  double top_p = 1;               // only the most likely tokens that together reach this probability
  double min_p = 0;               // only tokens at least this likely, relative to the most likely one
  double repetition_penalty = 1;  // see penalize_repetition(), which the caller applies
};

/// Throws UsageError that names the option for values out of range.
void validate(const SamplingOptions& options);

/// Divides the positive logits of these tokens by the penalty and multiplies the negative ones, each token once.
void penalize_repetition(std::span<float> logits, std::span<const int32_t> tokens, double penalty);

/// The first of the most likely tokens. Throws NumericError if a logit is NaN.
int32_t greedy_token(std::span<const float> logits);

/// `uniform` in [0, 1) selects a token by cumulative probability: in the order of ids if all tokens may be chosen, else
/// most likely first. Throws NumericError if a logit is NaN or the largest is infinite.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform);

}  // namespace plumb
