#include "lib/objective/grpo.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// Indices into ObjectiveSums.
enum Sum { kLoss, kPolicyLoss, kEntropy, kEntropyOfBonus, kKl, kPhi, kNumSums };
enum Count { kCompletions, kTokens, kBonusTokens, kRatios, kLowClipped, kHighClipped, kNumCounts };
enum Maximum { kNegatedLowClippedShare, kHighClippedShare, kNumMaxima };

using Stats = std::span<const TokenStats>;

/// The policy's log-probabilities. From the losses, because those are NaN if a logit was not finite.
std::vector<double> logps_of(Stats stats) {
  std::vector<double> logps;
  for (const TokenStats& token : stats) logps.push_back(-static_cast<double>(token.loss));
  return logps;
}

std::vector<double> as_doubles(std::span<const float> values) { return {values.begin(), values.end()}; }

/// 0 of nothing, as TRL logs it.
double ratio_of(double sum, int64_t count) { return sum / static_cast<double>(std::max<int64_t>(count, 1)); }
double ratio_of(int64_t sum, int64_t count) { return ratio_of(static_cast<double>(sum), count); }

/// The completions of one micro-batch and their losses.
class BatchLoss {
 public:
  BatchLoss(const PolicyOptions& options, const MicroBatch& batch, const Targets& targets, Stats stats,
            double lowest_entropy)
      : options_(options), stats_(stats), num_completions_(batch.num_documents()) {
    check(std::ssize(batch.advantages) == num_completions_, "every completion has an advantage");
    check(batch.round_completions >= 1, "a micro-batch knows the size of its round");
    if (options.has_entropy_mask())
      for (const TokenStats& token : stats)
        has_policy_term_.push_back(static_cast<double>(token.entropy) < lowest_entropy ? 0 : 1);  // NaN has one
    const std::vector<double> policy = logps_of(stats), old = as_doubles(batch.old_logps),
                              reference = as_doubles(batch.reference_token_logps);
    check(old.empty() || old.size() == policy.size(), "every target has an old log-probability, or none");
    check(!options.needs_reference() || reference.size() == policy.size(),
          "every target has the reference's log-probability");
    for (int64_t i = 0; i < num_completions_; ++i) {
      const size_t begin = targets.document_begin[i], count = targets.document_begin[i + 1] - begin;
      const auto part = [&](const auto& values) {
        return values.empty() ? std::span(values) : std::span(values).subspan(begin, count);
      };
      losses_.push_back(completion_loss(options, batch.advantages[i], {part(policy), part(old), part(reference)},
                                        part(has_policy_term_)));
      weights_.push_back(token_weight(options, {.completion_tokens = static_cast<int64_t>(count),
                                                .batch_completions = num_completions_ + batch.left_out_completions,
                                                .batch_tokens = std::ssize(stats) + batch.left_out_tokens,
                                                .round_completions = batch.round_completions,
                                                .round_tokens = batch.round_tokens}));
    }
  }

  /// entropy_coef: of the bonus in this step. num_completions: of the step.
  TargetScales scales(double entropy_coef, int64_t num_completions) const {
    TargetScales scales;
    for (size_t i = 0; i < losses_.size(); ++i)
      for (const double derivative : losses_[i].derivatives)
        scales.nll.push_back(static_cast<float>(-derivative * weights_[i] / static_cast<double>(num_completions)));
    if (entropy_coef == 0) return scales;
    const double scale = -entropy_coef * bonus_weight() / static_cast<double>(num_completions);
    for (size_t t = 0; t < stats_.size(); ++t)
      scales.entropy.push_back(has_bonus(t) ? static_cast<float>(scale) : 0.0f);
    return scales;
  }

  void add_to(ObjectiveSums& sums, double entropy_coef) const {
    for (size_t i = 0; i < losses_.size(); ++i) {
      const CompletionLoss& loss = losses_[i];
      sums.sums[kLoss].add(weights_[i] * (loss.policy + options_.beta * loss.kl));
      sums.sums[kPolicyLoss].add(weights_[i] * (loss.policy + options_.beta * loss.kl));
      sums.sums[kKl].add(loss.kl);
      sums.sums[kPhi].add(loss.phi);
      add_clipped(loss, sums);
    }
    for (const TokenStats& token : stats_) sums.sums[kEntropy].add(static_cast<double>(token.entropy));
    sums.counts[kCompletions] += num_completions_;
    sums.counts[kTokens] += std::ssize(stats_);
    if (options_.has_entropy_bonus()) add_bonus(sums, entropy_coef);
  }

 private:
  bool has_ratio_per_token() const { return options_.importance_level == ImportanceLevel::kToken; }
  bool has_bonus(size_t t) const { return has_policy_term_.empty() || has_policy_term_[t] != 0; }
  int64_t num_bonus_tokens() const {
    return has_policy_term_.empty() ? std::ssize(stats_)
                                    : std::count(has_policy_term_.begin(), has_policy_term_.end(), uint8_t{1});
  }
  /// The bonus is the mean entropy of each micro-batch, weighted by its completions.
  double bonus_weight() const { return ratio_of(num_completions_, num_bonus_tokens()); }

  void add_bonus(ObjectiveSums& sums, double entropy_coef) const {
    double entropy = 0;
    for (size_t t = 0; t < stats_.size(); ++t) {
      if (!has_bonus(t)) continue;
      entropy += static_cast<double>(stats_[t].entropy);
      sums.sums[kEntropyOfBonus].add(static_cast<double>(stats_[t].entropy));
    }
    sums.counts[kBonusTokens] += num_bonus_tokens();
    sums.sums[kLoss].add(-entropy_coef * bonus_weight() * entropy);
  }

  void add_clipped(const CompletionLoss& loss, ObjectiveSums& sums) const {
    const int64_t ratios = has_ratio_per_token() ? std::ssize(loss.derivatives) : 1;
    if (ratios == 0) return;
    sums.counts[kRatios] += ratios;
    sums.counts[kLowClipped] += loss.num_low_clipped;
    sums.counts[kHighClipped] += loss.num_high_clipped;
    const auto keep_larger = [&](Maximum maximum, double value) {
      sums.maxima[maximum] = std::max(sums.maxima[maximum], value);
    };
    keep_larger(kNegatedLowClippedShare, -ratio_of(loss.num_low_clipped, ratios));
    keep_larger(kHighClippedShare, ratio_of(loss.num_high_clipped, ratios));
  }

  const PolicyOptions& options_;
  Stats stats_;
  int64_t num_completions_;
  std::vector<uint8_t> has_policy_term_;  // one per target; empty: all
  std::vector<CompletionLoss> losses_;
  std::vector<double> weights_;  // token_weight() of each completion
};

/// The part of completions whose advantage is 0, or that are not trained, in everything but the entropy: no loss, and
/// ratios that are not clipped.
void add_left_out(const PolicyOptions& options, const MicroBatch& batch, ObjectiveSums& sums) {
  sums.counts[kCompletions] += batch.left_out_completions;
  if (options.loss == PolicyLoss::kVespo) sums.sums[kPhi].add(static_cast<double>(batch.left_out_completions));
  const bool has_ratio_per_token = options.importance_level == ImportanceLevel::kToken;
  const int64_t ratios = has_ratio_per_token ? batch.left_out_tokens : batch.left_out_completions;
  if (ratios == 0) return;
  sums.counts[kRatios] += ratios;
  for (const Maximum maximum : {kNegatedLowClippedShare, kHighClippedShare})
    sums.maxima[maximum] = std::max(sums.maxima[maximum], 0.0);
}

}  // namespace

OutputConfig at_temperature(OutputConfig output, double temperature) {
  // cap * tanh(scale * z / cap) / T is the same function with scale / T and cap / T
  output.logits.scale /= temperature;
  output.logits.cap /= temperature;
  return output;
}

std::vector<float> token_logps(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                               const OutputConfig& output, TokenLossScratch& scratch) {
  const TokenLossResult result =
      token_loss(hidden_TD, find_targets(batch), parameters, output, TokenLoss::kNll, 0.0, {}, scratch);
  std::vector<float> logps;
  for (const TokenStats& token : result.stats) logps.push_back(-token.loss);
  return logps;
}

GrpoObjective::GrpoObjective(const PolicyOptions& options, const OutputConfig& output)
    : options_(options),
      output_(at_temperature(output, options.temperature)),
      entropy_control_(first_entropy_control(options)) {
  validate(options_);
}

BatchWeight GrpoObjective::weigh(const MicroBatch& batch) const {
  return {.items = (batch.is_empty() ? 0 : batch.num_documents()) + batch.left_out_completions};
}

ObjectiveSums GrpoObjective::empty_sums() const {
  return {0, std::vector<ExactSum>(kNumSums), std::vector<int64_t>(kNumCounts),
          std::vector<double>(kNumMaxima, -std::numeric_limits<double>::infinity())};
}

at::Tensor GrpoObjective::apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) {
  const Targets targets = find_targets(batch);
  const double entropy_coef = applied_entropy_coef(options_, entropy_control_);
  const auto add = [&](const BatchLoss& loss) { loss.add_to(sums, entropy_coef); };
  bool is_added = batch.is_empty();
  // ratios of 1 without a KL term: the derivatives do not depend on the log-probabilities
  const bool knows_scales = batch.old_logps.empty() && !options_.needs_reference() && !options_.has_entropy_mask();
  TokenLossResult result;
  if (gradients && knows_scales && !batch.is_empty()) {
    const std::vector<TokenStats> unknown(targets.labels.size());
    const BatchLoss loss(options_, batch, targets, unknown, lowest_entropy_);
    result = scaled_token_loss(hidden_TD, targets, parameters, output_, loss.scales(entropy_coef, weight.items),
                               *gradients, scratch_);
  } else if (gradients) {
    result = token_loss_in_two_phases(
        hidden_TD, targets, parameters, output_,
        [&](const std::vector<TokenStats>& stats) {
          const BatchLoss loss(options_, batch, targets, stats, lowest_entropy_);
          add(loss);
          is_added = true;
          return loss.scales(entropy_coef, weight.items);
        },
        *gradients, scratch_);
  } else {
    result = token_loss(hidden_TD, targets, parameters, output_, TokenLoss::kNll, 0.0, {}, scratch_);
  }
  // without gradients, or without a target
  if (!is_added) add(BatchLoss(options_, batch, targets, result.stats, lowest_entropy_));
  add_left_out(options_, batch, sums);
  if (!batch.is_empty()) sums.num_tokens += batch.num_document_tokens();
  return result.dhidden_TD;
}

std::vector<Metric> GrpoObjective::metrics(const ObjectiveSums& sums, bool /*is_evaluation*/) const {
  const auto mean = [&](Sum sum, Count count) { return ratio_of(sums.sums[sum].value(), sums.counts[count]); };
  const auto share = [&](int64_t count) { return ratio_of(count, sums.counts[kRatios]); };
  const auto extreme = [&](Maximum maximum) { return sums.counts[kRatios] > 0 ? sums.maxima[maximum] : 0.0; };
  std::vector<Metric> metrics = {{"loss", mean(kLoss, kCompletions)}};
  if (options_.has_entropy_bonus()) {
    const double entropy = mean(kEntropyOfBonus, kBonusTokens);
    metrics.push_back({"policy_loss", mean(kPolicyLoss, kCompletions)});
    metrics.push_back({"entropy_coef", next_entropy_control(options_, entropy_control_, entropy).coef});
    if (options_.uses_adaptive_entropy) metrics.push_back({"entropy_control/entropy", entropy});
  }
  if (options_.needs_reference()) metrics.push_back({"kl", mean(kKl, kTokens)});
  metrics.push_back({"entropy", mean(kEntropy, kTokens)});
  const int64_t low = sums.counts[kLowClipped], high = sums.counts[kHighClipped];
  switch (options_.loss) {
    case PolicyLoss::kSapo:
      break;
    case PolicyLoss::kCispo:
      metrics.push_back({"cispo_clip_ratio", share(high)});
      break;
    case PolicyLoss::kVespo:
      metrics.push_back({"vespo/phi_seq_mean", mean(kPhi, kCompletions)});
      break;
    default:
      metrics.insert(metrics.end(), {{"clip_ratio/low_mean", share(low)},
                                     {"clip_ratio/high_mean", share(high)},
                                     {"clip_ratio/region_mean", share(low + high)},
                                     {"clip_ratio/low_min", 0.0 - extreme(kNegatedLowClippedShare)},
                                     {"clip_ratio/high_max", extreme(kHighClippedShare)}});
  }
  return metrics;
}

std::vector<double> GrpoObjective::statistics_of(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                                 const HeadTensors& parameters) {
  const TokenLossResult result =
      token_loss(hidden_TD, find_targets(batch), parameters, output_, TokenLoss::kNll, 0.0, {}, scratch_);
  std::vector<double> entropies;
  for (const TokenStats& token : result.stats) entropies.push_back(static_cast<double>(token.entropy));
  return entropies;
}

void GrpoObjective::set_global_statistics(const std::vector<std::vector<double>>& statistics) {
  std::vector<double> entropies;
  for (const std::vector<double>& part : statistics) entropies.insert(entropies.end(), part.begin(), part.end());
  lowest_entropy_ = linear_quantile(std::move(entropies), 1 - options_.top_entropy_quantile);
}

}  // namespace plumb
