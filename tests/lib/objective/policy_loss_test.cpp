// The losses of completions and their derivatives against plain formulas and central differences on both sides of every
// kink, and the weights of tokens against TRL's reductions step by step.
#include "lib/objective/policy_loss.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "tests/lib/objective/policy_formulas.hpp"

namespace plumb {
namespace {

using enum PolicyLoss;

constexpr std::array kAllLosses = {kGrpo, kBnpo, kDrGrpo, kDapo, kLuspo, kCispo, kSapo, kVespo, kRloo};

std::string text_of(PolicyLoss loss) { return loss == kRloo ? "rloo" : std::string(name_of(loss)); }

CompletionLoss loss_of(const PolicyOptions& options, const PlainCompletion& c) {
  return completion_loss(options, c.advantage, {c.policy, c.old, c.reference}, c.has_policy_term);
}

/// A completion with these log ratios; the reference's log-probabilities are larger and smaller than the policy's.
PlainCompletion completion(double advantage, const std::vector<double>& log_ratios) {
  PlainCompletion c;
  c.advantage = advantage;
  for (size_t t = 0; t < log_ratios.size(); ++t) {
    c.policy.push_back(-0.3 - 0.7 * static_cast<double>(t));
    c.old.push_back(c.policy.back() - log_ratios[t]);
    c.reference.push_back(c.policy.back() + (t % 2 == 0 ? 0.4 : -0.9));
  }
  return c;
}

/// Value and every derivative.
void expect_plain(const PolicyOptions& options, PlainCompletion c) {
  const Detached held = detached(options, c);
  const CompletionLoss loss = loss_of(options, c);
  const double value = plain_loss(options, c, held);
  EXPECT_NEAR(loss.policy + options.beta * loss.kl, value, 1e-12 * std::max(1.0, std::abs(value)));
  ASSERT_EQ(loss.derivatives.size(), c.size());
  constexpr double kStep = 1e-6;
  for (size_t t = 0; t < c.size(); ++t) {
    const double at = c.policy[t];
    c.policy[t] = at + kStep;
    const double above = plain_loss(options, c, held);
    c.policy[t] = at - kStep;
    const double below = plain_loss(options, c, held);
    c.policy[t] = at;
    const double slope = (above - below) / (2 * kStep);
    EXPECT_NEAR(loss.derivatives[t], slope, 2e-8 * std::max(1.0, std::max(std::abs(value), std::abs(slope))))
        << "token " << t;
  }
}

/// Options that make a difference for a loss at a level.
std::vector<PolicyOptions> variants(PolicyLoss loss, ImportanceLevel level) {
  PolicyOptions plain;
  plain.loss = loss;
  plain.importance_level = level;
  if (loss == kRloo) return {plain};
  std::vector<PolicyOptions> all(5, plain);
  all[1].epsilon_high = 0.28;
  if (loss != kCispo && loss != kSapo && loss != kVespo) all[1].delta = 1.5;
  all[2].beta = 0.3;
  all[3].beta = 0.3;
  all[3].uses_bias_correction_kl = false;
  all[4].off_policy_mask_threshold = 0.05;
  all[4].beta = 0.1;
  return all;
}

/// Calls body(options) for every loss, level and variant.
template <class Body>
void for_each_kind(Body body) {
  for (const PolicyLoss loss : kAllLosses)
    for (const ImportanceLevel level : {ImportanceLevel::kToken, ImportanceLevel::kSequence}) {
      if (loss == kRloo && level == ImportanceLevel::kToken) continue;
      const std::vector<PolicyOptions> all = variants(loss, level);
      for (size_t i = 0; i < all.size(); ++i) {
        SCOPED_TRACE(text_of(loss) + " " + std::string(name_of(level)) + " variant " + std::to_string(i));
        body(all[i]);
      }
    }
}

TEST(PolicyLoss, AndDerivativesOnBothSidesOfEveryKinkEqualTheFormulas) {
  std::vector<double> ratios = {1, 0.5, 1.9, 3};
  for (const double kink : {0.8, 1.2, 1.28, 1.5, 0.2, 0.28}) ratios.insert(ratios.end(), {kink - 0.01, kink + 0.01});
  for_each_kind([&](const PolicyOptions& options) {
    for (const double advantage : {-1.3, 0.0, 0.7})
      for (const double ratio : ratios) {
        SCOPED_TRACE(testing::Message() << "advantage " << advantage << ", ratio " << ratio);
        expect_plain(options, completion(advantage, {std::log(ratio)}));
        // of the completion: the geometric mean, and for rloo the product
        expect_plain(options, completion(advantage, {std::log(ratio) - 0.1, std::log(ratio) + 0.1}));
        expect_plain(options, completion(advantage, {0.3, std::log(ratio) - 0.3}));
      }
  });
}

TEST(PolicyLoss, OfSeveralTokensWithSomeMaskedByEntropyEqualsTheFormulas) {
  for_each_kind([&](const PolicyOptions& options) {
    for (const double advantage : {-1.0, 2.0}) {
      PlainCompletion c = completion(advantage, {0.05, -0.4, 0.3, 0.0, 0.12});
      expect_plain(options, c);
      if (options.loss == kRloo) continue;
      c.has_policy_term = {1, 0, 0, 1, 1};
      expect_plain(options, c);
      c.has_policy_term = {0, 0, 0, 0, 0};
      expect_plain(options, c);
    }
  });
}

TEST(PolicyLoss, WithoutOldLogpsHasARatioOfOne) {
  for_each_kind([&](const PolicyOptions& options) {
    PlainCompletion c = completion(0.9, {0.0, 0.0, 0.0});
    const CompletionLoss with = loss_of(options, c);
    c.old.clear();
    const CompletionLoss without = loss_of(options, c);
    EXPECT_EQ(with.policy, without.policy);
    EXPECT_EQ(with.kl, without.kl);
    EXPECT_EQ(with.derivatives, without.derivatives);
    EXPECT_EQ(without.num_low_clipped + without.num_high_clipped,
              options.loss == kCispo
                  ? std::ssize(c.policy) / (options.importance_level == ImportanceLevel::kToken ? 1 : 3)
                  : 0);
  });
}

TEST(PolicyLoss, AtARatioOfOneHasItsKnownDerivative) {
  for (const double advantage : {-2.0, 1.5})
    for (const PolicyLoss loss : kAllLosses) {
      SCOPED_TRACE(text_of(loss));
      PolicyOptions options;
      options.loss = loss;
      const CompletionLoss got = loss_of(options, completion(advantage, {0.0, 0.0}));
      const double expected = loss == kCispo ? -0.2 * advantage : -advantage;
      if (loss == kSapo)  // 4 sigma (1 - sigma) is 1 at the middle, whatever the temperature
        EXPECT_DOUBLE_EQ(got.derivatives[0], -advantage);
      else
        EXPECT_DOUBLE_EQ(got.derivatives[0], expected);
    }
}

TEST(PolicyLoss, OfNoTokensIsZeroButForRloo) {
  for_each_kind([&](const PolicyOptions& options) {
    const CompletionLoss loss = loss_of(options, completion(0.7, {}));
    EXPECT_EQ(loss.policy, options.loss == kRloo ? -0.7 : 0.0);
    EXPECT_EQ(loss.kl, 0);
    EXPECT_TRUE(loss.derivatives.empty());
    EXPECT_EQ(loss.num_low_clipped + loss.num_high_clipped,
              options.loss == kCispo && options.importance_level == ImportanceLevel::kSequence ? 1 : 0);
  });
}

TEST(PolicyLoss, FarFromTheOldPolicyEqualsTheFormulasAndIsFinite) {
  for_each_kind([&](const PolicyOptions& options) {
    for (const double advantage : {-1.0, 1.0})
      for (const double far : {-50.0, 50.0}) {
        SCOPED_TRACE(testing::Message() << "advantage " << advantage << ", log ratio " << far);
        expect_plain(options, completion(advantage, {far}));
        for (const double farther : {10 * far, 100 * far}) {
          PlainCompletion c = completion(advantage, {farther});
          for (const double distance : {0.0, -farther}) {
            c.reference[0] = c.policy[0] + distance;
            const CompletionLoss loss = loss_of(options, c);
            EXPECT_TRUE(std::isfinite(loss.policy + loss.kl + loss.derivatives[0]));
          }
        }
      }
  });
}

TEST(PolicyLoss, OfALogProbabilityThatIsNaNIsNaN) {
  for_each_kind([&](const PolicyOptions& options) {
    for (const double advantage : {-1.0, 0.0, 1.0}) {
      PlainCompletion c = completion(advantage, {0.1, 0.0});
      c.policy[1] = std::nan("");
      EXPECT_TRUE(std::isnan(loss_of(options, c).policy));
      c.old.clear();
      EXPECT_TRUE(std::isnan(loss_of(options, c).policy));
    }
  });
}

TEST(PolicyLoss, CountsWhatIsClipped) {
  PolicyOptions options;
  options.epsilon_high = 0.28;
  const std::vector<double> log_ratios = {std::log(0.7), std::log(0.79), 0, std::log(1.25), std::log(1.3)};
  const auto counts = [&](double advantage) {
    const CompletionLoss loss = loss_of(options, completion(advantage, log_ratios));
    return std::pair(loss.num_low_clipped, loss.num_high_clipped);
  };
  EXPECT_EQ(counts(-1), std::pair(int64_t{2}, int64_t{0}));
  EXPECT_EQ(counts(0), std::pair(int64_t{0}, int64_t{0}));
  EXPECT_EQ(counts(1), std::pair(int64_t{0}, int64_t{1}));
  options.importance_level = ImportanceLevel::kSequence;
  EXPECT_EQ(counts(-1), std::pair(int64_t{0}, int64_t{0})) << "their geometric mean is .98";
  options.loss = kCispo;
  EXPECT_EQ(counts(1), std::pair(int64_t{0}, int64_t{1})) << "above epsilon_high itself";
  options.loss = kRloo;
  EXPECT_EQ(counts(1), std::pair(int64_t{0}, int64_t{0})) << "their product is .90";
  options.epsilon = 0.05;
  EXPECT_EQ(counts(-1), std::pair(int64_t{1}, int64_t{0}));
}

TEST(PolicyLoss, VespoWeighsBySign) {
  PolicyOptions options;
  options.loss = kVespo;
  EXPECT_DOUBLE_EQ(loss_of(options, completion(1, {0, 0})).phi, 1);
  // w = e^.5: e^3 w^2 e^(-3 w), and e^2 w^3 e^(-2 w)
  const double w = std::exp(0.5);
  EXPECT_DOUBLE_EQ(loss_of(options, completion(1, {0.2, 0.3})).phi, std::exp(3 + 2 * 0.5 - 3 * w));
  EXPECT_DOUBLE_EQ(loss_of(options, completion(-1, {0.2, 0.3})).phi, std::exp(2 + 3 * 0.5 - 2 * w));
}

/// One completion of a simulated round: its tokens and the sum of their losses.
struct Row {
  int64_t tokens = 0;
  double loss = 0;
};

/// TRL's loss of the optimizer step made of these micro-batches: rows[accumulation][process][row]. num_items: N_round
/// of the round of each accumulation step.
double trl_loss(PolicyLoss loss, const std::vector<std::vector<std::vector<Row>>>& rows,
                const std::vector<int64_t>& num_items, int64_t steps_per_generation, int64_t max_completion_length) {
  const auto accumulation = static_cast<double>(rows.size());
  double total = 0;
  for (size_t a = 0; a < rows.size(); ++a) {
    const auto processes = static_cast<double>(rows[a].size());
    for (const std::vector<Row>& batch : rows[a]) {
      double sum = 0, sum_of_means = 0;
      int64_t tokens = 0;
      for (const Row& row : batch) {
        sum += row.loss;
        sum_of_means += row.loss / static_cast<double>(std::max<int64_t>(row.tokens, 1));
        tokens += row.tokens;
      }
      const auto size = static_cast<double>(batch.size());
      double value = 0;
      if (loss == kGrpo || loss == kSapo) value = sum_of_means / size / accumulation;
      if (loss == kBnpo) value = sum / static_cast<double>(std::max<int64_t>(tokens, 1)) / accumulation;
      if (loss == kDrGrpo) value = sum / (size * static_cast<double>(max_completion_length)) / accumulation;
      if (loss == kLuspo || loss == kRloo) value = sum / size / accumulation;
      if (loss == kDapo || loss == kCispo || loss == kVespo)
        value = sum / (static_cast<double>(std::max<int64_t>(num_items[a], 1)) / processes * accumulation /
                       static_cast<double>(steps_per_generation));
      total += value / processes;  // gradients are averaged over processes
    }
  }
  return total;
}

/// Rows of the accumulation steps of one round: [steps_per_generation][processes][batch].
std::vector<std::vector<std::vector<Row>>> random_round(int64_t steps, int64_t processes, int64_t batch,
                                                        uint64_t& counter) {
  std::vector<std::vector<std::vector<Row>>> round(steps, std::vector<std::vector<Row>>(processes));
  for (auto& step : round)
    for (std::vector<Row>& rows : step)
      for (int64_t i = 0; i < batch; ++i) {
        const auto tokens = static_cast<int64_t>(random_bits(1, 2, counter++) % 5);  // 0: a masked completion
        rows.push_back({tokens, tokens == 0 ? 0.0 : random_uniform(1, 3, counter++) - 0.5});
      }
  return round;
}

TEST(TokenWeight, GivesTheReductionsOfTrl) {
  constexpr int64_t kBatch = 3;
  PolicyOptions options;
  options.max_completion_length = 7;
  uint64_t counter = 0;
  for (const int64_t accumulation : {1, 2, 4})
    for (const int64_t steps_per_generation : {1, 2, 4})
      for (const int64_t processes : {1, 2, 4})
        for (const PolicyLoss loss : kAllLosses) {
          options.loss = loss;
          SCOPED_TRACE(testing::Message() << text_of(loss) << ", accumulation " << accumulation << ", steps "
                                          << steps_per_generation << ", processes " << processes);
          std::vector<std::vector<std::vector<Row>>> window;
          std::vector<int64_t> num_items;
          while (std::ssize(window) < accumulation) {
            const auto round = random_round(steps_per_generation, processes, kBatch, counter);
            int64_t tokens = 0;
            for (const auto& step : round)
              for (const auto& rows : step)
                for (const Row& row : rows) tokens += row.tokens;
            for (const auto& step : round)
              if (std::ssize(window) < accumulation) {
                window.push_back(step);
                num_items.push_back(tokens);
              }
          }
          double got = 0;
          for (size_t a = 0; a < window.size(); ++a)
            for (const std::vector<Row>& batch : window[a]) {
              int64_t batch_tokens = 0;
              for (const Row& row : batch) batch_tokens += row.tokens;
              for (const Row& row : batch)
                got += row.loss * token_weight(options, {.completion_tokens = row.tokens,
                                                         .batch_completions = kBatch,
                                                         .batch_tokens = batch_tokens,
                                                         .round_completions = kBatch * processes * steps_per_generation,
                                                         .round_tokens = num_items[a]});
            }
          got /= static_cast<double>(kBatch * processes * accumulation);
          EXPECT_NEAR(got, trl_loss(loss, window, num_items, steps_per_generation, 7), 1e-14);
        }
}

TEST(LinearQuantile, InterpolatesAsTorchDoes) {
  EXPECT_DOUBLE_EQ(linear_quantile({3, 1, 2, 4}, 0.5), 2.5);
  EXPECT_DOUBLE_EQ(linear_quantile({3, 1, 2, 4}, 0.8), 3.4);
  EXPECT_EQ(linear_quantile({3, 1, 2, 4}, 0), 1);
  EXPECT_EQ(linear_quantile({3, std::nan(""), 2, 4}, 1), 4);
  EXPECT_EQ(linear_quantile({}, 0.5), -std::numeric_limits<double>::infinity());
}

TEST(EntropyControl, RaisesTheCoefficientWhileEntropyIsLow) {
  PolicyOptions options;
  options.entropy_coef = 0.01;
  EXPECT_EQ(applied_entropy_coef(options, first_entropy_control(options)), 0.01);
  EXPECT_EQ(next_entropy_control(options, {.coef = 0.01}, 0.1), EntropyControl{.coef = 0.01});
  options.uses_adaptive_entropy = true;
  EntropyControl control = first_entropy_control(options);
  EXPECT_EQ(applied_entropy_coef(options, control), 0) << "nothing was measured yet";
  control = next_entropy_control(options, control, 0.3);
  EXPECT_EQ(control, (EntropyControl{0.005, 0.3}));
  EXPECT_EQ(applied_entropy_coef(options, control), 0) << "above the target";
  control = next_entropy_control(options, control, 0.2);
  EXPECT_EQ(applied_entropy_coef(options, control), 0.01);
  EXPECT_EQ(next_entropy_control(options, {0.999, 0.1}, 0.1).coef, 1);
  EXPECT_EQ(next_entropy_control(options, {0.001, 0.1}, 0.5).coef, 0);
}

TEST(PolicyOptions, ThatMeanNothingAreRefused) {
  const auto refused = [](auto change) {
    PolicyOptions options;
    change(options);
    EXPECT_THROW(validate(options), UsageError);
  };
  validate(PolicyOptions{});
  validate(PolicyOptions::rloo());
  refused([](PolicyOptions& o) { o.epsilon = 1; });
  refused([](PolicyOptions& o) { o.epsilon_high = std::nan(""); });
  refused([](PolicyOptions& o) { o.delta = 1.2; });
  refused([](PolicyOptions& o) { o.delta = 2, o.loss = kCispo; });
  refused([](PolicyOptions& o) { o.beta = -0.1; });
  refused([](PolicyOptions& o) { o.temperature = 0; });
  refused([](PolicyOptions& o) { o.top_entropy_quantile = 1.5; });
  refused([](PolicyOptions& o) { o.sapo_temperature_neg = 0; });
  refused([](PolicyOptions& o) { o.uses_adaptive_entropy = true, o.entropy_coef_min = 2; });
  refused([](PolicyOptions& o) { o.off_policy_mask_threshold = -1; });
}

}  // namespace
}  // namespace plumb
