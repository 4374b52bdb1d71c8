#include "lib/model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lib/base/check.hpp"

namespace plumb {

void validate(const SamplingOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0)
    throw_error<UsageError>("--temperature: expected 0 or more, got {}", options.temperature);
  if (options.top_k < 0) throw_error<UsageError>("--top_k: expected 0 (all tokens) or more, got {}", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw_error<UsageError>("--top_p: expected more than 0 and at most 1, got {}", options.top_p);
}

int32_t greedy_token(std::span<const float> logits) {
  check(!logits.empty(), "there is a token to choose");
  size_t best = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) throw_error<NumericError>("logit of token {}: expected a number, got NaN", i);
    if (logits[i] > logits[best]) best = i;
  }
  return static_cast<int32_t>(best);
}

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform) {
  const int32_t likeliest = greedy_token(logits);
  if (options.temperature == 0) return likeliest;
  const double largest = logits[likeliest];
  if (std::isinf(largest)) throw_error<NumericError>("logit of token {}: expected a finite number", likeliest);

  std::vector<int32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  std::sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) {
    const float x = logits[a], y = logits[b];
    return x != y ? x > y : a < b;
  });
  if (options.top_k > 0 && options.top_k < std::ssize(tokens)) tokens.resize(options.top_k);

  std::vector<double> reached;  // cumulative probability up to this token, unnormalized
  double sum = 0;
  for (const int32_t token : tokens) {
    sum += std::exp((logits[token] - largest) / options.temperature);
    reached.push_back(sum);
  }
  const auto enough = std::lower_bound(reached.begin(), reached.end(), options.top_p * sum);
  const size_t num_kept = std::min<size_t>(static_cast<size_t>(enough - reached.begin()) + 1, reached.size());
  const auto end = reached.begin() + static_cast<std::ptrdiff_t>(num_kept);
  const auto chosen = std::upper_bound(reached.begin(), end, uniform * reached[num_kept - 1]);
  return tokens[std::min<size_t>(chosen - reached.begin(), num_kept - 1)];
}

}  // namespace plumb
