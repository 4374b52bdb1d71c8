#include "lib/objective/policy_loss.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/objective/logistic.hpp"

namespace plumb {

namespace {

/// A value and its derivative with respect to the exponent, or to the ratio.
struct Slope {
  double value = 0;
  double derivative = 0;
};

Slope capped_exp(double exponent) {
  constexpr double kMaxExponent = 80;  // near the limit of float32, in which gradients are
  if (exponent > kMaxExponent) return {std::exp(kMaxExponent), 0};
  const double value = std::exp(exponent);
  return {value, value};
}

bool clips_ratio(PolicyLoss loss) {
  return loss != PolicyLoss::kCispo && loss != PolicyLoss::kSapo && loss != PolicyLoss::kVespo;
}

/// The term of one ratio, for the losses whose derivative goes through it.
Slope ratio_term(const PolicyOptions& options, double ratio, double advantage) {
  if (options.loss == PolicyLoss::kSapo) {
    const double tau = advantage > 0 ? options.sapo_temperature_pos : options.sapo_temperature_neg;
    const double x = tau * (ratio - 1), s = sigmoid(x);
    return {-4 / tau * s * advantage, -4 * s * sigmoid(-x) * advantage};
  }
  const double delta = options.delta.value_or(std::numeric_limits<double>::infinity());
  const double unclipped = std::min(ratio, delta) * advantage;
  const double clipped = std::clamp(ratio, options.clip_low(), options.clip_high()) * advantage;
  const bool moves = unclipped <= clipped && ratio < delta;
  return {-std::min(unclipped, clipped), moves ? -advantage : 0.0};
}

/// vespo: the weight of a completion.
double gamma_weight(const PolicyOptions& options, double advantage, std::span<const double> log_ratios) {
  constexpr double kLeast = -18.420680743952367, kMost = 20;  // ln 1e-8
  double sum = 0;
  for (const double log_ratio : log_ratios) sum += std::clamp(log_ratio, -kMost, kMost);
  const double log_weight = std::clamp(sum, kLeast, kMost);
  const bool is_positive = advantage >= 0;
  const double k = is_positive ? options.vespo_k_pos : options.vespo_k_neg;
  const double lambda = std::max(is_positive ? options.vespo_lambda_pos : options.vespo_lambda_neg, 1e-4);
  return std::exp(lambda + k * log_weight - lambda * std::exp(log_weight));
}

/// Computes one completion's loss term by term.
class Completion {
 public:
  Completion(const PolicyOptions& options, double advantage, const CompletionLogps& logps,
             std::span<const uint8_t> has_policy_term)
      : options_(options), advantage_(advantage), logps_(logps), has_term_(has_policy_term), n_(logps.policy.size()) {
    check(logps.old.empty() || logps.old.size() == n_, "every token has an old log-probability, or none");
    check(!options.needs_reference() || logps.reference.size() == n_, "every token has a reference's log-probability");
    check(has_policy_term.empty() || has_policy_term.size() == n_, "every token is masked by entropy or not");
    for (size_t t = 0; t < n_; ++t) {
      // 0 without old ones, or NaN, which must reach the loss
      log_ratios_.push_back(logps.policy[t] - (logps.old.empty() ? logps.policy[t] : logps.old[t]));
      sum_log_ratios_ += log_ratios_.back();
    }
    const double mean = n_ == 0 ? 0.0 : sum_log_ratios_ / static_cast<double>(n_);
    sequence_ratio_ = capped_exp(options.loss == PolicyLoss::kRloo ? sum_log_ratios_ : mean);
    is_off_policy_ = options.off_policy_mask_threshold && advantage < 0 && -mean > *options.off_policy_mask_threshold;
    loss_.derivatives.resize(n_);
  }

  CompletionLoss loss() {
    if (options_.loss == PolicyLoss::kVespo) loss_.phi = gamma_weight(options_, advantage_, log_ratios_);
    if (!is_off_policy_) add_policy_terms();
    if (options_.needs_reference()) add_kl();
    count_clipped();
    return std::move(loss_);
  }

 private:
  bool is_per_token() const { return options_.importance_level == ImportanceLevel::kToken; }
  bool has_term(size_t t) const { return has_term_.empty() || has_term_[t] != 0; }
  Slope ratio(size_t t) const { return is_per_token() ? capped_exp(log_ratios_[t]) : sequence_ratio_; }

  void add_policy_terms() {
    if (options_.loss == PolicyLoss::kRloo) {
      const Slope term = ratio_term(options_, sequence_ratio_.value, advantage_);
      loss_.policy = term.value;
      for (double& derivative : loss_.derivatives) derivative = term.derivative * sequence_ratio_.derivative;
      return;
    }
    double through_sequence = 0;  // the derivative of all terms with respect to the sum of the log ratios
    for (size_t t = 0; t < n_; ++t) {
      if (!has_term(t)) continue;
      if (options_.loss == PolicyLoss::kCispo || options_.loss == PolicyLoss::kVespo) {
        const double bound = options_.epsilon_high.value_or(options_.epsilon);
        const double weight = options_.loss == PolicyLoss::kVespo ? loss_.phi : std::min(ratio(t).value, bound);
        loss_.policy -= weight * advantage_ * logps_.policy[t];
        loss_.derivatives[t] -= weight * advantage_;
        continue;
      }
      const Slope r = ratio(t), term = ratio_term(options_, r.value, advantage_);
      loss_.policy += term.value;
      if (is_per_token())
        loss_.derivatives[t] += term.derivative * r.derivative;
      else
        through_sequence += term.derivative * r.derivative / static_cast<double>(n_);
    }
    if (through_sequence != 0)
      for (double& derivative : loss_.derivatives) derivative += through_sequence;
  }

  void add_kl() {
    double through_sequence = 0;
    for (size_t t = 0; t < n_; ++t) {
      const double distance = logps_.reference[t] - logps_.policy[t];
      const Slope e = capped_exp(distance);
      const double kl = e.value - distance - 1, dkl = 1 - e.derivative;
      if (!options_.uses_bias_correction_kl) {
        loss_.kl += kl;
        loss_.derivatives[t] += options_.beta * dkl;
        continue;
      }
      const Slope r = ratio(t);
      loss_.kl += r.value * kl;
      if (!is_per_token()) {
        loss_.derivatives[t] += options_.beta * r.value * dkl;
        through_sequence += r.derivative * kl / static_cast<double>(n_);
      } else if (r.derivative != 0 && e.derivative != 0) {
        loss_.derivatives[t] -= options_.beta * r.value * distance;  // the sum below, whose exponentials cancel
      } else {
        loss_.derivatives[t] += options_.beta * (r.derivative * kl + r.value * dkl);
      }
    }
    if (through_sequence != 0)
      for (double& derivative : loss_.derivatives) derivative += options_.beta * through_sequence;
  }

  void count_clipped() {
    const size_t num_ratios = is_per_token() ? n_ : 1;
    for (size_t t = 0; t < num_ratios; ++t) {
      const double r = ratio(t).value;
      if (clips_ratio(options_.loss)) {
        loss_.num_low_clipped += r < options_.clip_low() && advantage_ < 0 ? 1 : 0;
        loss_.num_high_clipped += r > options_.clip_high() && advantage_ > 0 ? 1 : 0;
      } else if (options_.loss == PolicyLoss::kCispo) {
        loss_.num_high_clipped += r > options_.epsilon_high.value_or(options_.epsilon) && advantage_ > 0 ? 1 : 0;
      }
    }
  }

  const PolicyOptions& options_;
  double advantage_;
  const CompletionLogps& logps_;
  std::span<const uint8_t> has_term_;
  size_t n_;
  std::vector<double> log_ratios_;
  double sum_log_ratios_ = 0;
  Slope sequence_ratio_;
  bool is_off_policy_ = false;
  CompletionLoss loss_;
};

}  // namespace

CompletionLoss completion_loss(const PolicyOptions& options, double advantage, const CompletionLogps& logps,
                               std::span<const uint8_t> has_policy_term) {
  return Completion(options, advantage, logps, has_policy_term).loss();
}

double token_weight(const PolicyOptions& options, const TokenWeightInput& input) {
  const auto share = [](int64_t part, int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(whole, 1));
  };
  switch (options.loss) {
    case PolicyLoss::kGrpo:
    case PolicyLoss::kSapo:
      return share(1, input.completion_tokens);
    case PolicyLoss::kBnpo:
      return share(input.batch_completions, input.batch_tokens);
    case PolicyLoss::kDrGrpo:
      return share(1, options.max_completion_length);
    case PolicyLoss::kDapo:
    case PolicyLoss::kCispo:
    case PolicyLoss::kVespo:
      return share(input.round_completions, input.round_tokens);
    case PolicyLoss::kLuspo:
    case PolicyLoss::kRloo:
      return 1;
  }
  throw std::logic_error("a loss without a weight");
}

double linear_quantile(std::vector<double> values, double quantile) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double value) { return std::isnan(value); }),
               values.end());
  if (values.empty()) return -std::numeric_limits<double>::infinity();
  std::sort(values.begin(), values.end());
  const double position = quantile * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(std::floor(position));
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace plumb
