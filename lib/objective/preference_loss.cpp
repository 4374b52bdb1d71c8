#include "lib/objective/preference_loss.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "lib/objective/logistic.hpp"

namespace plumb {

namespace {

constexpr double kLargestExponent = 80;  // TRL's limit for the alpha-divergence in float32

/// Value and derivative of a function of one variable.
struct Slope {
  double value = 0;
  double derivative = 0;
};

/// -(1 - e) log sigmoid(z) - e log sigmoid(-z): cross-entropy with a label that is wrong with probability e.
Slope smoothed_logistic(double z, double e) {
  return {-(1 - e) * log_sigmoid(z) - e * log_sigmoid(-z), -(1 - e) * sigmoid(-z) + e * sigmoid(z)};
}
Slope logistic(double z) { return smoothed_logistic(z, 0); }
Slope sigmoid_slope(double z) { return {sigmoid(z), sigmoid(z) * sigmoid(-z)}; }

/// exp(min(t, kLargestExponent)) - 1.
Slope bounded_expm1(double t) {
  return {std::expm1(std::min(t, kLargestExponent)), t <= kLargestExponent ? std::exp(t) : 0.0};
}

/// f'(policy / reference) of the f-divergence, from the logarithm of the ratio.
Slope score(const DpoOptions& options, double log_ratio) {
  const double less = options.f_alpha_divergence_coef - 1;
  switch (options.f_divergence) {
    case FDivergence::kReverseKl:
      break;
    case FDivergence::kForwardKl: {
      const Slope power = bounded_expm1(-log_ratio);
      return {-power.value, power.derivative};
    }
    case FDivergence::kJsDivergence:
      return {std::numbers::ln2 + log_sigmoid(log_ratio), sigmoid(-log_ratio)};
    case FDivergence::kAlphaDivergence: {
      if (std::abs(less) < 1e-6) break;
      const Slope power = bounded_expm1(less * log_ratio);
      return {power.value / less, power.derivative};
    }
  }
  return {log_ratio, 1};
}

Slope exo(double z, double e) {
  const double chosen = sigmoid(z), rejected = sigmoid(-z);
  const double log_chosen = std::log1p(-e), log_rejected = std::log(e);
  return {chosen * (log_sigmoid(z) - log_chosen) + rejected * (log_sigmoid(-z) - log_rejected),
          chosen * rejected * (z - (log_chosen - log_rejected))};
}

Slope robust(double z, double e) {
  const double scale = 1 / (1 - 2 * e);
  return {(-(1 - e) * log_sigmoid(z) + e * log_sigmoid(-z)) * scale, (-(1 - e) * sigmoid(-z) - e * sigmoid(z)) * scale};
}

/// A blend of logistic and exponential loss. The exponential is computed together with its blending weight as one
/// exponent, which stays small for tau up to 1.
Slope discopop(double z, double tau) {
  const double share = sigmoid(z / tau), rest = sigmoid(-z / tau);
  const double exponent = -z + log_sigmoid(z / tau);
  const double exponential = std::exp(std::min(exponent, kLargestExponent));
  const double dexponential = exponent <= kLargestExponent ? exponential * (rest / tau - 1) : 0.0;
  const Slope plain = logistic(z);
  return {plain.value * rest + exponential, plain.derivative * rest - plain.value * share * rest / tau + dexponential};
}

/// Inputs of every loss of one pair.
struct Pair {
  double chosen_ratio, rejected_ratio;  // log(policy / reference)
  Slope chosen, rejected;               // scores; equal to the log-ratios under reverse KL
  double chosen_tokens, rejected_tokens;
};

/// The loss `slope` as a function of factor * (chosen score / length - rejected score / length).
PairLoss of_difference(const Pair& pair, const Slope& slope, double factor, double chosen_length,
                       double rejected_length) {
  return {slope.value, slope.derivative * factor * pair.chosen.derivative / chosen_length,
          -slope.derivative * factor * pair.rejected.derivative / rejected_length};
}

PairLoss evaluate(const DpoOptions& options, PreferenceLoss loss, const Pair& pair) {
  const double beta = options.beta, smoothing = options.label_smoothing;
  const double z = beta * (pair.chosen.value - pair.rejected.value);
  const double mean_difference = pair.chosen.value / pair.chosen_tokens - pair.rejected.value / pair.rejected_tokens;
  const double chosen = beta * pair.chosen_ratio, rejected = beta * pair.rejected_ratio;
  const auto difference = [&](const Slope& slope) { return of_difference(pair, slope, beta, 1, 1); };
  const auto of_means = [&](const Slope& slope, double factor) {
    return of_difference(pair, slope, factor, pair.chosen_tokens, pair.rejected_tokens);
  };
  switch (loss) {
    case PreferenceLoss::kSigmoid:
      return difference(smoothed_logistic(z, smoothing));
    case PreferenceLoss::kHinge:
      return difference({std::max(1 - z, 0.0), z < 1 ? -1.0 : 0.0});
    case PreferenceLoss::kIpo: {
      const double error = mean_difference - 1 / (2 * beta);
      return of_means({error * error, 2 * error}, 1);
    }
    case PreferenceLoss::kExoPair:
      return difference(exo(z, smoothing));
    case PreferenceLoss::kNcaPair: {
      const Slope up = logistic(chosen), down = logistic(-chosen), other = logistic(-rejected);
      return {up.value + 0.5 * down.value + 0.5 * other.value, beta * (up.derivative - 0.5 * down.derivative),
              -beta * 0.5 * other.derivative};
    }
    case PreferenceLoss::kRobust:
      return difference(robust(z, smoothing));
    case PreferenceLoss::kBcoPair: {
      const Slope up = logistic(chosen), down = logistic(-rejected);
      return {up.value + down.value, beta * up.derivative, -beta * down.derivative};
    }
    case PreferenceLoss::kSppoHard: {
      const double winner = pair.chosen_ratio - 0.5 / beta, loser = pair.rejected_ratio + 0.5 / beta;
      return {winner * winner + loser * loser, 2 * winner, 2 * loser};
    }
    case PreferenceLoss::kApoZero: {
      const Slope up = sigmoid_slope(-chosen), down = sigmoid_slope(rejected);
      return {up.value + down.value, -beta * up.derivative, beta * down.derivative};
    }
    case PreferenceLoss::kApoDown: {
      const Slope down = sigmoid_slope(chosen), apart = sigmoid_slope(rejected - chosen);
      return {down.value + apart.value, beta * (down.derivative - apart.derivative), beta * apart.derivative};
    }
    case PreferenceLoss::kDiscopop:
      return difference(discopop(z, options.discopop_tau));
    case PreferenceLoss::kSigmoidNorm:
      return of_means(logistic(beta * mean_difference), beta);
    case PreferenceLoss::kAot:
    case PreferenceLoss::kAotUnpaired:
    case PreferenceLoss::kSft:
      break;
  }
  return {};
}

/// The indices of `values` in ascending order of value, NaN last.
std::vector<size_t> sorted_order(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return values[a] < values[b] || (std::isnan(values[b]) && !std::isnan(values[a]));
  });
  return order;
}

/// Optimal transport in one dimension: matches the k-th smallest of one sample with the k-th smallest of the other
/// (arXiv:2406.05882).
void add_aot(const DpoOptions& options, const WeightedLoss& term, std::span<const PairLogps> pairs,
             std::vector<PairLoss>& losses) {
  const bool is_paired = term.loss == PreferenceLoss::kAot;
  std::vector<double> better, worse;
  for (const PairLogps& pair : pairs) {
    better.push_back(is_paired ? pair.chosen - pair.rejected : pair.chosen - pair.reference_chosen);
    worse.push_back(is_paired ? pair.reference_chosen - pair.reference_rejected
                              : pair.rejected - pair.reference_rejected);
  }
  const std::vector<size_t> better_order = sorted_order(better), worse_order = sorted_order(worse);
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    const size_t b = better_order[rank], w = worse_order[rank];
    const Slope slope = smoothed_logistic(options.beta * (better[b] - worse[w]), options.label_smoothing);
    losses[b].loss += term.weight * slope.value;
    losses[b].dchosen += term.weight * options.beta * slope.derivative;
    losses[is_paired ? b : w].drejected -= term.weight * options.beta * slope.derivative;
  }
}

bool needs_all_pairs(PreferenceLoss loss) {
  return loss == PreferenceLoss::kAot || loss == PreferenceLoss::kAotUnpaired;
}

}  // namespace

bool DpoOptions::has(PreferenceLoss loss) const {
  return std::any_of(losses.begin(), losses.end(), [&](const WeightedLoss& term) { return term.loss == loss; });
}

double DpoOptions::weight_of(PreferenceLoss loss) const {
  double weight = 0;
  for (const WeightedLoss& term : losses)
    if (term.loss == loss) weight += term.weight;
  return weight;
}

PairLoss pair_loss(const DpoOptions& options, const PairLogps& given) {
  Pair pair;
  pair.chosen_ratio = given.chosen - given.reference_chosen;
  pair.rejected_ratio = given.rejected - given.reference_rejected;
  pair.chosen = score(options, pair.chosen_ratio);
  pair.rejected = score(options, pair.rejected_ratio);
  pair.chosen_tokens = std::max(1.0, static_cast<double>(given.chosen_tokens));
  pair.rejected_tokens = std::max(1.0, static_cast<double>(given.rejected_tokens));
  PairLoss sum;
  for (const WeightedLoss& term : options.losses) {
    const PairLoss one = evaluate(options, term.loss, pair);
    const double weight = term.weight * given.weight;
    sum.loss += weight * one.loss;
    sum.dchosen += weight * one.dchosen;
    sum.drejected += weight * one.drejected;
  }
  return sum;
}

std::vector<PairLoss> pair_losses(const DpoOptions& options, std::span<const PairLogps> pairs) {
  std::vector<PairLoss> losses;
  for (const PairLogps& pair : pairs) losses.push_back(pair_loss(options, pair));
  for (const WeightedLoss& term : options.losses)
    if (needs_all_pairs(term.loss)) add_aot(options, term, pairs, losses);
  return losses;
}

}  // namespace plumb
