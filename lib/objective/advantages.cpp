#include "lib/objective/advantages.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kStdOffset = 1e-4;
constexpr double kZeroStd = 1e-8;  // torch.isclose to 0

using Values = std::span<const double>;

double weight_of(Values weights, size_t function) { return weights.empty() ? 1.0 : weights[function]; }

/// Calls body(first completion of the group, its values) for each group.
template <class Body>
void for_each_group(Values values, int64_t num_generations, Body body) {
  const auto size = static_cast<size_t>(num_generations);
  check(size > 0 && values.size() % size == 0, "a round consists of whole groups");
  for (size_t begin = 0; begin < values.size(); begin += size) body(begin, values.subspan(begin, size));
}

/// (value - mean) / (std + offset) of each value, with the moments of `of`.
void normalize(std::span<double> values, const MeanAndStd& of) {
  for (double& value : values) value = (value - of.mean) / (of.std + kStdOffset);
}

void zero_instead_of_nan(std::vector<double>& values) {
  for (double& value : values)
    if (std::isnan(value)) value = 0;
}

/// Normalizes each function's values in their group, sums them, and normalizes the sums of the round.
RoundAdvantages normalize_then_sum(const AdvantageOptions& options, const RewardTable& table) {
  RoundAdvantages round{.rewards = weighted_rewards(table, options.reward_weights)};
  RewardTable normalized = table;
  for (size_t function = 0; function < table.num_functions; ++function) {
    std::vector<double> column;
    for (size_t i = 0; i < table.num_completions(); ++i) column.push_back(table.at(i, function));
    for_each_group(column, options.num_generations, [&](size_t begin, Values group) {
      const MeanAndStd moments = mean_and_std(group);
      normalize(std::span(column).subspan(begin, group.size()), moments);
    });
    for (size_t i = 0; i < column.size(); ++i) normalized.values[i * table.num_functions + function] = column[i];
  }
  round.advantages = weighted_rewards(normalized, options.reward_weights);
  // a completion with a reward that is alone in its group has a sum of nothing, which counts as 0
  for (size_t i = 0; i < round.advantages.size(); ++i)
    if (std::isnan(round.advantages[i]) && !std::isnan(round.rewards[i])) round.advantages[i] = 0;
  const MeanAndStd moments = mean_and_std(round.advantages);
  normalize(round.advantages, moments);
  round.frac_reward_zero_std = moments.std <= kZeroStd ? 1 : 0;
  zero_instead_of_nan(round.advantages);
  return round;
}

}  // namespace

MeanAndStd mean_and_std(Values values) {
  // from differences to the first value, so that equal values have a deviation of 0
  double first = kNone, sum = 0, squares = 0;
  int64_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    if (count++ == 0) first = value;
    sum += value - first;
  }
  if (count == 0) return {kNone, kNone};
  const double shift = sum / static_cast<double>(count);
  for (const double value : values)
    if (!std::isnan(value)) squares += (value - first - shift) * (value - first - shift);
  return {first + shift, count > 1 ? std::sqrt(squares / static_cast<double>(count - 1)) : kNone};
}

std::vector<double> weighted_rewards(const RewardTable& table, Values reward_weights) {
  check(reward_weights.empty() || reward_weights.size() == table.num_functions, "every reward has a weight, or none");
  std::vector<double> rewards;
  for (size_t i = 0; i < table.num_completions(); ++i) {
    double sum = 0;
    bool has_any = false;
    for (size_t function = 0; function < table.num_functions; ++function) {
      const double reward = table.at(i, function);
      if (std::isnan(reward)) continue;
      has_any = true;
      sum += reward * weight_of(reward_weights, function);
    }
    rewards.push_back(has_any ? sum : kNone);
  }
  return rewards;
}

RoundAdvantages grpo_advantages(const AdvantageOptions& options, const RewardTable& table) {
  if (options.aggregation == RewardAggregation::kNormalizeThenSum) return normalize_then_sum(options, table);
  RoundAdvantages round{.rewards = weighted_rewards(table, options.reward_weights)};
  round.advantages = round.rewards;
  const double round_std = mean_and_std(round.rewards).std;
  double num_zero = 0;
  for_each_group(round.rewards, options.num_generations, [&](size_t begin, Values group) {
    const MeanAndStd moments = mean_and_std(group);
    const double std = options.scale_rewards == RewardScale::kBatch ? round_std : moments.std;
    if (std <= kZeroStd) num_zero += static_cast<double>(group.size());
    for (size_t i = begin; i < begin + group.size(); ++i) {
      round.advantages[i] -= moments.mean;
      if (options.scale_rewards != RewardScale::kNone) round.advantages[i] /= std + kStdOffset;
    }
  });
  round.frac_reward_zero_std = num_zero / static_cast<double>(round.rewards.size());
  zero_instead_of_nan(round.advantages);
  return round;
}

RoundAdvantages rloo_advantages(const RlooAdvantageOptions& options, const RewardTable& table, Values kl) {
  RoundAdvantages round{.rewards = weighted_rewards(table, options.reward_weights)};
  check(options.beta == 0 || kl.size() == round.rewards.size(), "every completion has a KL divergence");
  std::vector<double> rewards = round.rewards;
  for (size_t i = 0; i < rewards.size(); ++i) {
    if (std::isnan(rewards[i])) continue;
    if (options.reward_clip_range)
      rewards[i] = std::clamp(rewards[i], options.reward_clip_range->first, options.reward_clip_range->second);
    if (options.beta != 0) rewards[i] -= options.beta * kl[i];
  }
  round.advantages.resize(rewards.size(), kNone);
  double num_zero = 0, num_groups = 0;
  for_each_group(rewards, options.num_generations, [&](size_t begin, Values group) {
    num_zero += mean_and_std(group).std <= kZeroStd ? 1 : 0;
    ++num_groups;
    // r - (sum - r) / (n - 1) as the distance to the mean, which is 0 for equal rewards
    const double mean = mean_and_std(group).mean;
    const auto count = static_cast<double>(
        std::count_if(group.begin(), group.end(), [](double reward) { return !std::isnan(reward); }));
    for (size_t i = 0; i < group.size(); ++i)
      if (count > 1) round.advantages[begin + i] = (group[i] - mean) * count / (count - 1);
  });
  round.frac_reward_zero_std = num_zero / num_groups;
  if (options.normalizes_advantages) normalize(round.advantages, mean_and_std(round.advantages));
  zero_instead_of_nan(round.advantages);
  return round;
}

std::vector<Metric> reward_metrics(std::span<const std::string> names, const RewardTable& table,
                                   const RoundAdvantages& round) {
  check(names.size() == table.num_functions, "every reward has a name");
  std::vector<Metric> metrics;
  for (size_t function = 0; function < names.size(); ++function) {
    std::vector<double> column;
    for (size_t i = 0; i < table.num_completions(); ++i) column.push_back(table.at(i, function));
    const MeanAndStd moments = mean_and_std(column);
    metrics.push_back({"rewards/" + names[function] + "/mean", moments.mean});
    metrics.push_back({"rewards/" + names[function] + "/std", moments.std});
  }
  const MeanAndStd moments = mean_and_std(round.rewards);
  metrics.insert(
      metrics.end(),
      {{"reward", moments.mean}, {"reward_std", moments.std}, {"frac_reward_zero_std", round.frac_reward_zero_std}});
  return metrics;
}

std::vector<Metric> completion_metrics(std::span<const int64_t> lengths, const std::vector<bool>& is_truncated) {
  check(!lengths.empty() && lengths.size() == is_truncated.size(), "every completion has a length and an end or none");
  std::vector<double> all, terminated;
  for (size_t i = 0; i < lengths.size(); ++i) {
    all.push_back(static_cast<double>(lengths[i]));
    if (!is_truncated[i]) terminated.push_back(all.back());
  }
  const double num_truncated = static_cast<double>(all.size() - terminated.size());
  if (terminated.empty()) terminated.push_back(0);
  const auto least = [](const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); };
  const auto most = [](const std::vector<double>& values) { return *std::max_element(values.begin(), values.end()); };
  return {{"completions/mean_length", mean_and_std(all).mean},
          {"completions/min_length", least(all)},
          {"completions/max_length", most(all)},
          {"completions/clipped_ratio", num_truncated / static_cast<double>(all.size())},
          {"completions/mean_terminated_length", mean_and_std(terminated).mean},
          {"completions/min_terminated_length", least(terminated)},
          {"completions/max_terminated_length", most(terminated)}};
}

}  // namespace plumb
