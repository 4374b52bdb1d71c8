// The chunked loss against one that makes all logits at once in float64.
#include "lib/objective/token_loss.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <vector>

#include "lib/base/random.hpp"
#include "lib/kernels/reference.hpp"

namespace plumb {
namespace {

constexpr double kNormEpsilon = 1e-5;
constexpr OutputConfig kOutput = {.norm = {.epsilon = kNormEpsilon}, .logits = {}};

struct LossCase {
  int64_t vocab, dim, num_targets;
};
void PrintTo(const LossCase& given, std::ostream* out) {
  *out << given.num_targets << " targets of " << given.vocab << " tokens";
}

// A chunk holds 16 MiB of logits: 104 rows of the large vocabulary in float32 and 209 in bfloat16, or 83886 of the
// small one in float32. In bfloat16 the head's gradient is added in slices of 2^20 elements: two for the large
// vocabulary.
const LossCase kCases[] = {{50, 24, 1},      {50, 24, 37},     {50, 8, 84001},  {40000, 40, 1},
                           {40000, 40, 104}, {40000, 40, 105}, {40000, 40, 250}};

/// Every third token is no target.
Targets random_targets(const LossCase& given) {
  Targets targets;
  for (int64_t t = 0; std::ssize(targets.labels) < given.num_targets; ++t) {
    if (t % 3 == 1) continue;
    targets.positions.push_back(t);
    targets.labels.push_back(
        static_cast<int64_t>(random_bits(1, 2, static_cast<uint64_t>(t)) % static_cast<uint64_t>(given.vocab)));
  }
  return targets;
}

struct Input {
  Targets targets;
  at::Tensor hidden_TD;
  HeadTensors head;

  /// Logits get a standard deviation of 2.
  Input(const LossCase& given, at::ScalarType dtype) : targets(random_targets(given)) {
    const int64_t num_tokens = targets.positions.empty() ? 5 : targets.positions.back() + 2;
    hidden_TD = at::randn({num_tokens, given.dim}).to(dtype);
    head.norm_D = (1 + 0.2 * at::randn({given.dim})).to(dtype);
    head.head_VD = (at::randn({given.vocab, given.dim}) * (2 / std::sqrt(static_cast<double>(given.dim)))).to(dtype);
  }
};

struct Gradients {
  HeadTensors head;  // float32, NaN where nothing is written

  explicit Gradients(const LossCase& given)
      : head{at::full({given.dim}, std::nan("")), at::full({given.vocab, given.dim}, std::nan(""))} {}
};

struct Expected {
  at::Tensor logits;
  reference::CrossEntropy tokens;
  at::Tensor dhidden, dnorm, dhead;
};

Expected reference_loss(const Input& input, TokenLoss kind, double gradient_scale) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor hidden = leaf(input.hidden_TD), norm = leaf(input.head.norm_D), head = leaf(input.head.head_VD);
  const at::Tensor selected = hidden.index_select(0, at::tensor(input.targets.positions));
  const at::Tensor logits = at::matmul(reference::rms_norm(selected, norm, kNormEpsilon), head.t());
  const auto tokens = reference::cross_entropy(logits, at::tensor(input.targets.labels), kind);
  (tokens.loss.sum() * gradient_scale).backward();
  return {logits.detach(), tokens, hidden.grad(), norm.grad(), head.grad()};
}

class TokenLossOf : public testing::TestWithParam<LossCase> {
 protected:
  void SetUp() override { at::manual_seed(1); }

  /// stats_error: absolute, of a loss, log-probability or entropy; gradient_error: relative_distance().
  static void expect_reference(at::ScalarType dtype, double stats_error, double gradient_error) {
    const double scale = 1.0 / 64;
    for (const TokenLoss kind : {TokenLoss::kNll, TokenLoss::kDft}) {
      const Input input(GetParam(), dtype);
      const Expected expected = reference_loss(input, kind, scale);
      const Gradients gradients(GetParam());
      TokenLossScratch scratch;
      const TokenLossResult got =
          token_loss(input.hidden_TD, input.targets, input.head, kOutput, kind, scale, gradients.head, scratch);
      ASSERT_EQ(got.stats.size(), input.targets.labels.size());
      expect_stats(got.stats, expected, stats_error);
      EXPECT_EQ(got.dhidden_TD.scalar_type(), dtype);
      EXPECT_LE(reference::relative_distance(got.dhidden_TD, expected.dhidden), gradient_error);
      EXPECT_LE(reference::relative_distance(gradients.head.head_VD, expected.dhead), gradient_error);
      EXPECT_LE(reference::relative_distance(gradients.head.norm_D, expected.dnorm), gradient_error);
      const TokenLossResult without =
          token_loss(input.hidden_TD, input.targets, input.head, kOutput, kind, 0, {}, scratch);
      EXPECT_FALSE(without.dhidden_TD.defined());
      for (size_t i = 0; i < got.stats.size(); ++i)
        ASSERT_EQ(without.stats[i].loss, got.stats[i].loss) << "evaluation and training have the same loss";
    }
  }

  static void expect_stats(const std::vector<TokenStats>& got, const Expected& expected, double error) {
    const auto values = [](const at::Tensor& x) {
      const at::Tensor wide = x.detach().to(at::kDouble).contiguous();
      return std::vector<double>(wide.const_data_ptr<double>(), wide.const_data_ptr<double>() + wide.numel());
    };
    const auto loss = values(expected.tokens.loss), log_probability = values(expected.tokens.log_probability),
               entropy = values(expected.tokens.entropy), is_correct = values(expected.tokens.is_correct);
    const auto two_largest = std::get<0>(expected.logits.topk(2, -1));
    const auto lead = values(two_largest.select(1, 0) - two_largest.select(1, 1));
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i].loss, loss[i], error) << i;
      ASSERT_NEAR(got[i].log_probability, log_probability[i], error) << i;
      ASSERT_NEAR(got[i].entropy, entropy[i], error) << i;
      // rounding may decide between logits that are nearer to each other than its error
      ASSERT_TRUE(got[i].is_correct == (is_correct[i] != 0) || lead[i] <= 2 * error) << i;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Sizes, TokenLossOf, testing::ValuesIn(kCases));

// Stats: logits of up to 10 and sums of 40 products round to 24 bits, and each of 16 lanes adds up to 2500 exponentials
// in turn, twice for the entropy; errors are of either sign: 10 * sqrt(40) + 2 * sqrt(2500) roundings. Gradients have
// the same exponentials and are then summed over the targets, in an order that is the library's: some processors' costs
// twice the roundings.
TEST_P(TokenLossOf, InFloat32EqualsTheReference) {
  const double over_targets = std::sqrt(static_cast<double>(GetParam().num_targets));
  expect_reference(at::kFloat, 163 * 0x1p-24, (163 + 2 * over_targets) * 0x1p-24);
}

// Stats: a logit of up to 10 is rounded to 8 bits, an error of 2^-5 at most, and its arguments before it.
// Gradients: logits' error of about 2 * 2^-8 in the exponent, then the probability, the sum over rows and over tokens
// stored in 8 bits each.
TEST_P(TokenLossOf, InBFloat16EqualsTheReference) { expect_reference(at::kBFloat16, 0x1p-4, 5 * 0x1p-8); }

TEST(TokenLossScratch, ReuseChangesNothing) {
  at::manual_seed(2);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    TokenLossScratch reused;
    for (const LossCase& given : {LossCase{50, 24, 37}, LossCase{50, 24, 5}, LossCase{40000, 40, 120},
                                  LossCase{50, 24, 60}, LossCase{50, 40, 60}}) {
      const Input input(given, dtype);
      const Gradients with_reused(given), with_fresh(given);
      TokenLossScratch fresh;
      const auto first = token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, 0.1,
                                    with_reused.head, reused);
      const auto second =
          token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, 0.1, with_fresh.head, fresh);
      EXPECT_TRUE(first.dhidden_TD.equal(second.dhidden_TD));
      EXPECT_TRUE(with_reused.head.head_VD.equal(with_fresh.head.head_VD));
      EXPECT_TRUE(with_reused.head.norm_D.equal(with_fresh.head.norm_D));
    }
  }
}

TEST(TokenLossInTwoPhases, WithOneScaleHasTheBitsOfOnePhase) {
  at::manual_seed(3);
  constexpr double kScale = 1.0 / 64;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const LossCase& given : {LossCase{50, 24, 37}, LossCase{40000, 40, 104}, LossCase{40000, 40, 250}}) {
      const Input input(given, dtype);
      const Gradients of_one(given), of_two(given);
      TokenLossScratch scratch;
      const auto one = token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, kScale,
                                  of_one.head, scratch);
      const auto two = token_loss_in_two_phases(
          input.hidden_TD, input.targets, input.head, kOutput,
          [&](const std::vector<TokenStats>& stats) {
            for (size_t i = 0; i < stats.size(); ++i) EXPECT_EQ(stats[i].loss, one.stats[i].loss);
            return TargetScales{std::vector<float>(stats.size(), static_cast<float>(kScale))};
          },
          of_two.head, scratch);
      EXPECT_EQ(two.stats.size(), one.stats.size());
      EXPECT_TRUE(two.dhidden_TD.equal(one.dhidden_TD));
      EXPECT_TRUE(of_two.head.head_VD.equal(of_one.head.head_VD));
      EXPECT_TRUE(of_two.head.norm_D.equal(of_one.head.norm_D));
    }
}

TEST(TokenLossInTwoPhases, OfOneTargetIsThatTargetsGradient) {
  at::manual_seed(4);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const LossCase given{40000, 40, 250};
    const Input input(given, dtype);
    Input alone = input;
    alone.targets = {{input.targets.positions[240]}, {input.targets.labels[240]}};
    const Expected expected = reference_loss(alone, TokenLoss::kNll, -0.5);
    const Gradients gradients(given);
    TokenLossScratch scratch;
    const auto got = token_loss_in_two_phases(
        input.hidden_TD, input.targets, input.head, kOutput,
        [](const std::vector<TokenStats>& stats) {
          std::vector<float> scales(stats.size());
          scales[240] = -0.5f;
          return TargetScales{scales};
        },
        gradients.head, scratch);
    const double error = dtype == at::kFloat ? 163 * 0x1p-24 : 5 * 0x1p-8;  // as of one phase
    EXPECT_LE(reference::relative_distance(got.dhidden_TD, expected.dhidden), error);
    EXPECT_LE(reference::relative_distance(gradients.head.head_VD, expected.dhead), error);
    EXPECT_LE(reference::relative_distance(gradients.head.norm_D, expected.dnorm), error);
  }
}

TEST(TokenLossOfNothing, IsNoStatsAndZeroGradients) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const LossCase given{50, 24, 0};
    const Input input(given, dtype);
    const Gradients gradients(given);
    TokenLossScratch scratch;
    const auto got =
        token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, 0.5, gradients.head, scratch);
    EXPECT_TRUE(got.stats.empty());
    EXPECT_EQ(got.dhidden_TD.sizes(), input.hidden_TD.sizes());
    for (const at::Tensor& gradient : {got.dhidden_TD, gradients.head.head_VD, gradients.head.norm_D})
      EXPECT_TRUE(gradient.eq(0).all().item<bool>());
    EXPECT_TRUE(
        token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, 0, {}, scratch).stats.empty());
  }
}

TEST(TokenLossOfNaN, IsNaNForThatTokenAlone) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const LossCase given{50, 24, 10};
    Input input(given, dtype);
    input.hidden_TD[input.targets.positions[4]][3] = std::nan("");
    const Gradients gradients(given);
    TokenLossScratch scratch;
    const auto got =
        token_loss(input.hidden_TD, input.targets, input.head, kOutput, TokenLoss::kNll, 0.5, gradients.head, scratch);
    for (size_t i = 0; i < got.stats.size(); ++i) EXPECT_EQ(std::isnan(got.stats[i].loss), i == 4) << i;
  }
}

TEST(FindTargets, ArePositionsBeforeTrainedTokensOfADocument) {
  MicroBatch batch;
  batch.token_ids = {10, 11, 12, 13, 14, 15, 16};
  batch.document_begin = {0, 3, 4, 7};
  batch.loss_mask = {1, 0, 1, 1, 1, 1, 0};
  const Targets targets = find_targets(batch);
  EXPECT_EQ(targets.positions, (std::vector<int64_t>{1, 4})) << "the first token of a document is predicted by none";
  EXPECT_EQ(targets.labels, (std::vector<int64_t>{12, 15}));
  batch.loss_mask.assign(7, 0);
  EXPECT_TRUE(find_targets(batch).labels.empty());
  MicroBatch nothing;
  nothing.document_begin = {0};
  EXPECT_TRUE(find_targets(nothing).labels.empty());
}

}  // namespace
}  // namespace plumb
