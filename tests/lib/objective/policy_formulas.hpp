// The losses of policy_loss.hpp written once more, as plainly as the papers have them: values only, no derivatives.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "lib/objective/policy_loss.hpp"

namespace plumb {

struct PlainCompletion {
  double advantage = 0;
  std::vector<double> policy, old, reference;
  std::vector<uint8_t> has_policy_term;  // empty: all

  size_t size() const { return policy.size(); }
  bool has_term(size_t t) const { return has_policy_term.empty() || has_policy_term[t]; }
};

/// The factors that autograd does not see: computed at one point, held at the points around it.
struct Detached {
  std::vector<double> weights;  // of cispo and vespo, one per token
  bool is_off_policy = false;
};

inline double mean_log_ratio(const PlainCompletion& c) {
  double sum = 0;
  for (size_t t = 0; t < c.size(); ++t) sum += c.policy[t] - c.old[t];
  return c.size() == 0 ? 0 : sum / static_cast<double>(c.size());
}

inline double plain_ratio(const PolicyOptions& o, const PlainCompletion& c, size_t t) {
  return std::exp(o.importance_level == ImportanceLevel::kToken ? c.policy[t] - c.old[t] : mean_log_ratio(c));
}

inline Detached detached(const PolicyOptions& o, const PlainCompletion& c) {
  Detached d;
  d.is_off_policy = o.off_policy_mask_threshold && c.advantage < 0 && -mean_log_ratio(c) > *o.off_policy_mask_threshold;
  double sum = 0;
  for (size_t t = 0; t < c.size(); ++t) sum += std::clamp(c.policy[t] - c.old[t], -20.0, 20.0);
  const double log_w = std::clamp(sum, std::log(1e-8), 20.0);
  const bool up = c.advantage >= 0;
  const double k = up ? o.vespo_k_pos : o.vespo_k_neg, lambda = up ? o.vespo_lambda_pos : o.vespo_lambda_neg;
  for (size_t t = 0; t < c.size(); ++t)
    d.weights.push_back(o.loss == PolicyLoss::kVespo
                            ? std::exp(lambda) * std::pow(std::exp(log_w), k) * std::exp(-lambda * std::exp(log_w))
                            : std::min(plain_ratio(o, c, t), o.epsilon_high.value_or(o.epsilon)));
  return d;
}

inline double clipped_term(const PolicyOptions& o, double ratio, double advantage) {
  const double bounded = o.delta ? std::min(ratio, *o.delta) : ratio;
  const double high = 1 + o.epsilon_high.value_or(o.epsilon);
  return -std::min(bounded * advantage, std::min(std::max(ratio, 1 - o.epsilon), high) * advantage);
}

inline double plain_policy_term(const PolicyOptions& o, const PlainCompletion& c, const Detached& d, size_t t) {
  const double ratio = plain_ratio(o, c, t);
  switch (o.loss) {
    case PolicyLoss::kCispo:
    case PolicyLoss::kVespo:
      return -d.weights[t] * c.advantage * c.policy[t];
    case PolicyLoss::kSapo: {
      const double tau = c.advantage > 0 ? o.sapo_temperature_pos : o.sapo_temperature_neg;
      return -4 / tau / (1 + std::exp(-tau * (ratio - 1))) * c.advantage;
    }
    default:
      return clipped_term(o, ratio, c.advantage);
  }
}

/// The sum of the losses of all tokens; of rloo the loss of the completion.
inline double plain_loss(const PolicyOptions& o, const PlainCompletion& c, const Detached& d) {
  if (o.loss == PolicyLoss::kRloo)
    return clipped_term(o, std::exp(mean_log_ratio(c) * static_cast<double>(c.size())), c.advantage);
  double loss = 0;
  for (size_t t = 0; t < c.size(); ++t) {
    if (c.has_term(t) && !d.is_off_policy) loss += plain_policy_term(o, c, d, t);
    if (o.beta == 0) continue;
    const double distance = c.reference[t] - c.policy[t];
    const double kl = std::exp(distance) - distance - 1;
    loss += o.beta * kl * (o.uses_bias_correction_kl ? plain_ratio(o, c, t) : 1);
  }
  return loss;
}

}  // namespace plumb
