#include "lib/model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/kernels/decode_kernels.hpp"

namespace plumb {

void validate(const SamplingOptions& options) {
  if (!std::isfinite(options.temperature) || options.temperature < 0)
    throw_error<UsageError>("--temperature: expected 0 or more, got {}", options.temperature);
  if (options.top_k < 0) throw_error<UsageError>("--top_k: expected 0 (all tokens) or more, got {}", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1))
    throw_error<UsageError>("--top_p: expected more than 0 and at most 1, got {}", options.top_p);
  if (!(options.min_p >= 0 && options.min_p <= 1))
    throw_error<UsageError>("--min_p: expected a probability, got {}", options.min_p);
  if (!std::isfinite(options.repetition_penalty) || options.repetition_penalty <= 0)
    throw_error<UsageError>("--repetition_penalty: expected more than 0, got {}", options.repetition_penalty);
}

void penalize_repetition(std::span<float> logits, std::span<const int32_t> tokens, double penalty) {
  std::vector<int32_t> distinct(tokens.begin(), tokens.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const int32_t token : distinct) {
    if (static_cast<size_t>(token) >= logits.size()) continue;
    float& logit = logits[token];
    logit = static_cast<float>(logit > 0 ? logit / penalty : logit * penalty);
  }
}

int32_t greedy_token(std::span<const float> logits) {
  check(!logits.empty(), "there is a token to choose");
  const int64_t best = sampling_kernels().largest(logits.data(), std::ssize(logits));
  if (best >= 0) return static_cast<int32_t>(best);
  const auto nan = std::find_if(logits.begin(), logits.end(), [](float x) { return std::isnan(x); });
  throw_error<NumericError>("logit of token {}: expected a number, got NaN", nan - logits.begin());
}

namespace {

/// Probabilities relative to that of the likeliest token, computed a block at a time, so that no row of them exists.
class Weights {
 public:
  Weights(std::span<const float> logits, float most, double temperature)
      : logits_(logits), most_(most), factor_(static_cast<float>(1 / temperature)) {}

  /// Calls body(first token, weights of a block, their sum) until it returns true.
  template <class Body>
  void for_blocks(Body body) const {
    float weights[kBlock];
    for (size_t first = 0; first < logits_.size(); first += kBlock) {
      const size_t count = std::min(kBlock, logits_.size() - first);
      const float sum =
          sampling_kernels().exponentials(&logits_[first], static_cast<int64_t>(count), most_, factor_, weights);
      if (body(first, std::span<const float>(weights, count), static_cast<double>(sum))) return;
    }
  }
  double sum() const {
    double all = 0;
    for_blocks([&](size_t, std::span<const float>, double sum) {
      all += sum;
      return false;
    });
    return all;
  }

 private:
  static constexpr size_t kBlock = 1024;
  std::span<const float> logits_;
  float most_, factor_;
};

struct Candidate {
  int32_t token;
  float logit, weight;
};
/// The likelier token first, of equals the first.
bool is_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

/// The tokens that the options leave, likeliest first.
std::vector<Candidate> find_candidates(std::span<const float> logits, const Weights& weights,
                                       const SamplingOptions& o) {
  // tokens below this weight reach less than 1 - top_p together, whatever their number
  const double sum = weights.sum();
  double least = std::max(o.min_p, o.top_k == 0 ? (1 - o.top_p) * sum / static_cast<double>(logits.size()) : 0.0);
  std::vector<Candidate> found;
  weights.for_blocks([&](size_t first, std::span<const float> block, double) {
    for (size_t i = 0; i < block.size(); ++i) {
      if (!(block[i] > 0 && block[i] >= least)) continue;
      const Candidate candidate{static_cast<int32_t>(first + i), logits[first + i], block[i]};
      if (o.top_k == 0 || std::ssize(found) < o.top_k) {
        found.push_back(candidate);
      } else {
        if (!is_before(candidate, found.front())) continue;
        std::pop_heap(found.begin(), found.end(), is_before);
        found.back() = candidate;
      }
      if (o.top_k > 0) std::push_heap(found.begin(), found.end(), is_before);
    }
    return false;
  });
  std::sort(found.begin(), found.end(), is_before);
  double kept_sum = sum;  // of the tokens that top_k leaves
  if (o.top_k > 0) {
    kept_sum = 0;
    for (const Candidate& candidate : found) kept_sum += candidate.weight;
  }
  double reached = 0;
  size_t num_kept = 0;
  while (num_kept < found.size() && (num_kept == 0 || reached < o.top_p * kept_sum))
    reached += found[num_kept++].weight;
  found.resize(num_kept);
  return found;
}

}  // namespace

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, double uniform) {
  const int32_t likeliest = greedy_token(logits);
  if (options.temperature == 0) return likeliest;
  if (std::isinf(logits[likeliest]))
    throw_error<NumericError>("logit of token {}: expected a finite number", likeliest);
  const Weights weights(logits, logits[likeliest], options.temperature);
  int32_t chosen = likeliest;
  if (options.top_k > 0 || options.top_p < 1 || options.min_p > 0) {
    const std::vector<Candidate> candidates = find_candidates(logits, weights, options);
    double sum = 0;
    for (const Candidate& candidate : candidates) sum += candidate.weight;
    double rest = uniform * sum;
    for (const Candidate& candidate : candidates) {
      chosen = candidate.token;
      rest -= candidate.weight;
      if (rest < 0) break;
    }
    return chosen;
  }
  double rest = uniform * weights.sum();
  weights.for_blocks([&](size_t first, std::span<const float> block, double sum) {
    if (rest >= sum) {
      rest -= sum;
      return false;
    }
    for (size_t i = 0; i < block.size(); ++i) {
      if (block[i] == 0) continue;
      chosen = static_cast<int32_t>(first + i);
      rest -= block[i];
      if (rest < 0) break;
    }
    return true;
  });
  return chosen;
}

}  // namespace plumb
