// Chooses the next token: a pure function of the logits, the options and one random number, so that a text can be
// reproduced from its seed.
// Source: the order temperature, top_k, top_p of transformers' logits processors; top-p is Holtzman et al.,
// arXiv:1904.09751.
#pragma once

#include <cstdint>
#include <span>

namespace plumb {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int64_t top_k = 0;       // only the k most likely tokens; 0: all
  double top_p = 1;        // only the most likely tokens that together reach this probability
};

/// Throws UsageError that names the option for values out of range.
void validate(const SamplingOptions& options);

/// The first of the most likely tokens. Throws NumericError if a logit is NaN.
int32_t greedy_token(std::span<const float> logits);

/// `uniform` in [0, 1) selects a token by cumulative probability, most likely first. Throws NumericError if a logit is
/// NaN or the largest is infinite.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform);

}  // namespace plumb
