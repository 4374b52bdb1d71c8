// Sampling, advantages and losses together, where the right result is known: a model of one token, whose logits are its
// parameters.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lib/base/random.hpp"
#include "lib/model/sampling.hpp"
#include "lib/objective/advantages.hpp"
#include "lib/objective/policy_loss.hpp"

namespace plumb {
namespace {

constexpr double kTemperature = 0.8;

/// Log-probabilities at the temperature.
std::vector<double> logps_of(const std::vector<double>& logits) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit / kTemperature);
  std::vector<double> logps;
  for (const double logit : logits) logps.push_back(logit / kTemperature - std::log(sum));
  return logps;
}

/// The choices of a round of groups.
std::vector<size_t> sample(const std::vector<double>& logits, int64_t count, uint64_t round) {
  const std::vector<float> values(logits.begin(), logits.end());
  std::vector<size_t> choices;
  for (int64_t i = 0; i < count; ++i)
    choices.push_back(static_cast<size_t>(
        sample_token(values, {.temperature = kTemperature}, random_uniform(5, round, static_cast<uint64_t>(i)))));
  return choices;
}

RewardTable rewards_of(const std::vector<double>& reward_of_token, const std::vector<size_t>& choices) {
  RewardTable table{1, {}};
  for (const size_t choice : choices) table.values.push_back(reward_of_token[choice]);
  return table;
}

/// Adds the gradient of the mean loss of these completions with respect to the logits.
void add_gradient(const PolicyOptions& options, const std::vector<double>& logps, const std::vector<size_t>& choices,
                  const std::vector<double>& advantages, std::vector<double>& gradient) {
  const auto count = static_cast<int64_t>(choices.size());
  for (size_t i = 0; i < choices.size(); ++i) {
    const std::vector<double> policy = {logps[choices[i]]};
    const double weight = token_weight(options, {.completion_tokens = 1,
                                                 .batch_completions = count,
                                                 .batch_tokens = count,
                                                 .round_completions = count,
                                                 .round_tokens = count});
    const double d =
        completion_loss(options, advantages[i], {policy, {}, {}}).derivatives[0] * weight / static_cast<double>(count);
    for (size_t j = 0; j < gradient.size(); ++j)
      gradient[j] += d * ((j == choices[i] ? 1.0 : 0.0) - std::exp(logps[j])) / kTemperature;
  }
}

/// The mean gradient of `num_groups` groups of 4 lies within 4 standard errors of `factor` times that of the expected
/// reward, in every component.
template <class FindAdvantages>
void expect_unbiased(const PolicyOptions& options, double factor, FindAdvantages find_advantages) {
  constexpr size_t kVocab = 32;
  constexpr uint64_t kGroups = 4096;
  std::vector<double> logits, reward_of_token;
  for (size_t j = 0; j < kVocab; ++j) {
    logits.push_back(0.5 * random_normal(1, 1, j));  // no token is too rare for its standard error
    reward_of_token.push_back(random_uniform(1, 2, j));
  }
  const std::vector<double> logps = logps_of(logits);
  double expected_reward = 0;
  for (size_t j = 0; j < kVocab; ++j) expected_reward += std::exp(logps[j]) * reward_of_token[j];
  std::vector<double> sums(kVocab), squares(kVocab);
  for (uint64_t group = 0; group < kGroups; ++group) {
    const std::vector<size_t> choices = sample(logits, 4, group);
    std::vector<double> gradient(kVocab);
    add_gradient(options, logps, choices, find_advantages(rewards_of(reward_of_token, choices)), gradient);
    for (size_t j = 0; j < kVocab; ++j) {
      sums[j] += gradient[j];
      squares[j] += gradient[j] * gradient[j];
    }
  }
  for (size_t j = 0; j < kVocab; ++j) {
    const double mean = sums[j] / kGroups;
    const double error = std::sqrt((squares[j] / kGroups - mean * mean) / kGroups);
    const double exact = -std::exp(logps[j]) * (reward_of_token[j] - expected_reward) / kTemperature;
    EXPECT_NEAR(mean, factor * exact, 4 * error) << j;
  }
}

TEST(PolicyGradient, OfRlooIsUnbiased) {
  expect_unbiased(PolicyOptions::rloo(), 1, [](const RewardTable& table) {
    return rloo_advantages({.num_generations = 4, .reward_weights = {}, .reward_clip_range = {}, .beta = 0}, table)
        .advantages;
  });
}

// the mean of a group contains the completion itself
TEST(PolicyGradient, OfGrpoWithoutScaleIsThreeQuartersOfTheGradientForGroupsOfFour) {
  for (const PolicyLoss loss : {PolicyLoss::kDapo, PolicyLoss::kGrpo, PolicyLoss::kSapo}) {
    PolicyOptions options;
    options.loss = loss;
    expect_unbiased(options, 0.75, [](const RewardTable& table) {
      return grpo_advantages({.num_generations = 4, .reward_weights = {}, .scale_rewards = RewardScale::kNone}, table)
          .advantages;
    });
  }
}

// With the divergence in the reward the optimum of one rewarded token is p0 e^(1/beta) / (1 - p0 + p0 e^(1/beta)).
TEST(PolicyGradient, OfRlooFindsTheOptimumOfABandit) {
  constexpr size_t kVocab = 16;
  constexpr double kBeta = 0.5, kFirst = 0.01;
  std::vector<double> reward_of_token(kVocab, 0.0), logits(kVocab, 0.0);
  reward_of_token[3] = 1;
  logits[3] = kTemperature * std::log(kFirst / (1 - kFirst) * (kVocab - 1));
  const std::vector<double> reference = logps_of(logits);
  ASSERT_NEAR(std::exp(reference[3]), kFirst, 1e-12);
  const PolicyOptions options = PolicyOptions::rloo();
  double sum = 0;
  constexpr uint64_t kSteps = 1500, kAveraged = 500;
  for (uint64_t step = 0; step < kSteps; ++step) {
    const std::vector<double> logps = logps_of(logits);
    if (step >= kSteps - kAveraged) sum += std::exp(logps[3]);
    const std::vector<size_t> choices = sample(logits, 256, step);
    std::vector<double> kl;
    for (const size_t choice : choices) kl.push_back(logps[choice] - reference[choice]);
    const RoundAdvantages round =
        rloo_advantages({.num_generations = 8, .reward_weights = {}, .reward_clip_range = {}, .beta = kBeta},
                        rewards_of(reward_of_token, choices), kl);
    std::vector<double> gradient(kVocab);
    add_gradient(options, logps, choices, round.advantages, gradient);
    for (size_t j = 0; j < kVocab; ++j) logits[j] -= 2 * gradient[j];
  }
  const double raised = kFirst * std::exp(1 / kBeta), optimum = raised / (1 - kFirst + raised);
  ASSERT_NEAR(optimum, 0.0695, 1e-3);
  EXPECT_NEAR(sum / kAveraged, optimum, 0.01);
}

}  // namespace
}  // namespace plumb
