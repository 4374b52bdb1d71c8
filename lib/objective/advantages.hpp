// From the rewards of the completions of a round to their advantages, and the metrics of the round. Everything is in
// float64 and in the order of completions, so that ranks that know all rewards compute the same bits. Formulas and
// metric names are TRL's (GRPOTrainer and RLOOTrainer 1.16), which computes in float32.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/objective/metric.hpp"
#include "lib/objective/policy_options.hpp"

namespace plumb {

/// Rewards of the completions of a round, those of a prompt one after the other. NaN: the function does not apply to
/// the completion.
struct RewardTable {
  size_t num_functions = 0;
  std::vector<double> values;  // [completions, functions]

  size_t num_completions() const { return num_functions == 0 ? 0 : values.size() / num_functions; }
  double at(size_t completion, size_t function) const { return values[completion * num_functions + function]; }
};

struct RoundAdvantages {
  std::vector<double> advantages = {};  // 0 for a completion without any reward
  /// Weighted sums of rewards, without clip and KL; NaN for a completion without any.
  std::vector<double> rewards;
  double frac_reward_zero_std = 0;
};

/// The weighted sum of each completion's rewards, leaving out those that do not apply; NaN if none applies.
std::vector<double> weighted_rewards(const RewardTable& table, std::span<const double> reward_weights);

/// Advantages of grpo. The number of completions is a multiple of num_generations.
RoundAdvantages grpo_advantages(const AdvantageOptions& options, const RewardTable& table);

/// Advantages of rloo. kl: for each completion, the sum over its trained tokens of log p_old - log p_reference; empty
/// if beta is 0.
RoundAdvantages rloo_advantages(const RlooAdvantageOptions& options, const RewardTable& table,
                                std::span<const double> kl = {});

/// Mean and unbiased standard deviation of the values that are not NaN. Equal values have a deviation of exactly 0. NaN
/// for no values; the deviation also for one.
struct MeanAndStd {
  double mean = 0, std = 0;
};
MeanAndStd mean_and_std(std::span<const double> values);

/// rewards/NAME/mean and /std of each function, reward, reward_std, frac_reward_zero_std. NaN where TRL logs none.
std::vector<Metric> reward_metrics(std::span<const std::string> names, const RewardTable& table,
                                   const RoundAdvantages& round);

/// completions/{mean,min,max}_length, clipped_ratio and {mean,min,max}_terminated_length of at least one completion.
/// lengths: tokens of each, the token that ended it included.
std::vector<Metric> completion_metrics(std::span<const int64_t> lengths, const std::vector<bool>& is_truncated);

}  // namespace plumb
