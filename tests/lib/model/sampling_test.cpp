#include "lib/model/sampling.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"

namespace plumb {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// probabilities 0.5, 0.25, 0.125, 0.125 at temperature 1, unordered
const std::vector<float> kLogits = {std::log(0.125f), std::log(0.5f), std::log(0.125f), std::log(0.25f)};

std::map<int32_t, double> frequencies(const SamplingOptions& options, uint64_t count = 20000) {
  std::map<int32_t, double> result;
  for (uint64_t i = 0; i < count; ++i)
    result[sample_token(kLogits, options, random_uniform(7, 0, i))] += 1.0 / static_cast<double>(count);
  return result;
}

TEST(Sampling, GreedyTakesTheFirstOfEqualLogits) {
  EXPECT_EQ(greedy_token(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(sample_token(std::vector<float>{1, 3, 3, 2}, {}, 0.999), 1);
}

TEST(Sampling, TemperatureOneFollowsTheProbabilities) {
  const auto seen = frequencies({.temperature = 1});
  EXPECT_NEAR(seen.at(1), 0.5, 0.015);
  EXPECT_NEAR(seen.at(3), 0.25, 0.015);
  EXPECT_NEAR(seen.at(0), 0.125, 0.015);
  EXPECT_NEAR(seen.at(2), 0.125, 0.015);
}

TEST(Sampling, HalfTheTemperatureSquaresTheProbabilities) {
  const auto seen = frequencies({.temperature = 0.5});
  const double sum = 0.25 + 0.0625 + 2 * 0.015625;
  EXPECT_NEAR(seen.at(1), 0.25 / sum, 0.015);
  EXPECT_NEAR(seen.at(3), 0.0625 / sum, 0.015);
}

TEST(Sampling, TopKKeepsTheMostLikely) {
  const auto seen = frequencies({.temperature = 1, .top_k = 2});
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen.at(1), 2.0 / 3, 0.015);
  EXPECT_EQ(frequencies({.temperature = 1, .top_k = 9}, 2000).size(), 4u);
}

TEST(Sampling, TopPKeepsTheTokenThatReachesIt) {
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.4}).size(), 1u);
  const auto seen = frequencies({.temperature = 1, .top_p = 0.6});
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen.at(3), 1.0 / 3, 0.015);
}

TEST(Sampling, EveryRandomNumberSelectsAToken) {
  for (const double uniform : {0.0, 0.5, 0.75, std::nextafter(1.0, 0.0)}) {
    const int32_t token = sample_token(kLogits, {.temperature = 1}, uniform);
    EXPECT_GE(token, 0);
    EXPECT_LT(token, 4);
  }
  EXPECT_EQ(sample_token(kLogits, {.temperature = 1}, 0.0), 0);
  EXPECT_EQ(sample_token(kLogits, {.temperature = 1, .top_k = 4}, 0.0), 1);
}

/// By a sort of all tokens, in float64.
std::vector<int32_t> tokens_left(const std::vector<float>& logits, const SamplingOptions& o) {
  std::vector<int32_t> tokens(logits.size());
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i);
  std::stable_sort(tokens.begin(), tokens.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (o.top_k > 0 && o.top_k < std::ssize(tokens)) tokens.resize(o.top_k);
  const auto weight = [&](int32_t token) { return std::exp((logits[token] - logits[tokens[0]]) / o.temperature); };
  double sum = 0, reached = 0;
  for (const int32_t token : tokens) sum += weight(token);
  std::vector<int32_t> left;
  for (const int32_t token : tokens) {
    if (!left.empty() && (reached >= o.top_p * sum || weight(token) < o.min_p)) break;
    reached += weight(token);
    left.push_back(token);
  }
  return left;
}

TEST(Sampling, LeavesTheTokensThatASortOfAllLeaves) {
  std::vector<float> logits;
  for (uint64_t i = 0; i < 3000; ++i) logits.push_back(static_cast<float>(6 * random_uniform(3, 1, i)));
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 0.7, .top_p = 0.5}, SamplingOptions{.temperature = 1, .top_p = 0.97},
        SamplingOptions{.temperature = 1, .top_k = 40}, SamplingOptions{.temperature = 2, .top_k = 40, .top_p = 0.8},
        SamplingOptions{.temperature = 1, .min_p = 0.3},
        SamplingOptions{.temperature = 1, .top_p = 0.9, .min_p = 0.2}}) {
    const std::vector<int32_t> left = tokens_left(logits, options);
    EXPECT_EQ(sample_token(logits, options, 0), left.front());
    EXPECT_EQ(sample_token(logits, options, std::nextafter(1.0, 0.0)), left.back());
  }
}

TEST(Sampling, PenalizesEachTokenOnce) {
  std::vector<float> logits = {2, -2, 3, 1};
  penalize_repetition(logits, std::vector<int32_t>{0, 1, 0, 9}, 2);
  EXPECT_EQ(logits, (std::vector<float>{1, -4, 3, 1}));
}

TEST(Sampling, MinusInfinityIsNeverChosen) {
  const std::vector<float> logits = {-kInfinity, 0.0f, -kInfinity};
  EXPECT_EQ(sample_token(logits, {.temperature = 2}, std::nextafter(1.0, 0.0)), 1);
}

TEST(Sampling, RefusesNanLogits) {
  EXPECT_THROW(greedy_token(std::vector<float>{0, kNan}), NumericError);
  EXPECT_THROW(sample_token(std::vector<float>{0, kInfinity}, {.temperature = 1}, 0.5), NumericError);
}

TEST(Sampling, RefusesOptionsOutOfRange) {
  EXPECT_NO_THROW(validate(SamplingOptions{}));
  EXPECT_THROW(validate({.temperature = -1}), UsageError);
  EXPECT_THROW(validate({.temperature = NAN}), UsageError);
  EXPECT_THROW(validate({.top_k = -1}), UsageError);
  EXPECT_THROW(validate({.top_p = 0}), UsageError);
  EXPECT_THROW(validate({.top_p = 1.5}), UsageError);
}

}  // namespace
}  // namespace plumb
