// Every loss and its derivatives against autograd of its plain formula, and where the plain formula overflows.
#include "lib/objective/preference_loss.hpp"

#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <ostream>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/base/random.hpp"
#include "tests/lib/objective/preference_formulas.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {

void PrintTo(PreferenceLoss loss, std::ostream* out) { *out << name_of(loss); }

namespace {

using enum PreferenceLoss;

const PreferenceLoss kLossesOfOnePair[] = {kSigmoid, kHinge,    kIpo,     kExoPair, kNcaPair,  kRobust,
                                           kBcoPair, kSppoHard, kApoZero, kApoDown, kDiscopop, kSigmoidNorm};

std::vector<PairLogps> random_pairs(size_t count, double deviation) {
  std::vector<PairLogps> pairs;
  for (uint64_t i = 0; i < count; ++i) {
    const auto normal = [&](uint64_t stream) { return deviation * random_normal(7, stream, i); };
    const double chosen = -40 + normal(0), rejected = -50 + normal(1);
    pairs.push_back({chosen, rejected, chosen + normal(2), rejected + normal(3), static_cast<int64_t>(3 + i % 5),
                     static_cast<int64_t>(2 + i % 7), 1});
  }
  return pairs;
}

template <class Field>
at::Tensor column(const std::vector<PairLogps>& pairs, Field PairLogps::*field) {
  std::vector<double> values;
  for (const PairLogps& pair : pairs) values.push_back(static_cast<double>(pair.*field));
  return at::tensor(values, at::kDouble);
}

void expect_near(double got, double expected, const char* what, size_t pair) {
  EXPECT_NEAR(got, expected, 1e-12 * (1 + std::abs(expected))) << what << " of pair " << pair;
}

/// The sum over pairs is compared where a sort decides which pair a loss belongs to.
void expect_plain(const DpoOptions& options, const std::vector<PairLogps>& pairs) {
  PairTensors given{column(pairs, &PairLogps::chosen).set_requires_grad(true),
                    column(pairs, &PairLogps::rejected).set_requires_grad(true),
                    column(pairs, &PairLogps::reference_chosen),
                    column(pairs, &PairLogps::reference_rejected),
                    column(pairs, &PairLogps::chosen_tokens),
                    column(pairs, &PairLogps::rejected_tokens)};
  at::Tensor expected = at::zeros_like(given.chosen);
  for (const WeightedLoss& term : options.losses)
    expected = expected + term.weight * plain_losses(options, term.loss, given);
  expected.sum().backward();
  const std::vector<PairLoss> got = pair_losses(options, pairs);
  ASSERT_EQ(got.size(), pairs.size());
  double sum = 0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto at_pair = [&](const at::Tensor& x) { return x[static_cast<int64_t>(i)].item<double>(); };
    if (!options.needs_all_pairs()) expect_near(got[i].loss, at_pair(expected), "loss", i);
    expect_near(got[i].dchosen, at_pair(given.chosen.grad()), "dchosen", i);
    expect_near(got[i].drejected, at_pair(given.rejected.grad()), "drejected", i);
    sum += got[i].loss;
  }
  expect_near(sum, expected.sum().item<double>(), "sum", pairs.size());
}

DpoOptions options_of(PreferenceLoss loss, double beta = 0.1) {
  DpoOptions options;
  options.beta = beta;
  options.losses = {{loss, 1}};
  if (loss == kExoPair) options.label_smoothing = 1e-3;
  return options;
}

class LossOfOnePair : public testing::TestWithParam<PreferenceLoss> {};
INSTANTIATE_TEST_SUITE_P(All, LossOfOnePair, testing::ValuesIn(kLossesOfOnePair));

TEST_P(LossOfOnePair, AndItsDerivativesEqualThePlainFormula) {
  for (const double beta : {0.1, 0.7})
    for (const double deviation : {0.0, 0.5, 8.0})
      for (const double smoothing : {0.0, 0.2}) {
        DpoOptions options = options_of(GetParam(), beta);
        if (smoothing > 0) options.label_smoothing = smoothing;
        validate(options);
        expect_plain(options, random_pairs(20, deviation));
      }
}

TEST_P(LossOfOnePair, IsFiniteHoweverFarThePolicyHasGone) {
  std::vector<DpoOptions> all = {options_of(GetParam(), 1)};
  DpoOptions diverging = all[0];
  for (const FDivergence divergence :
       {FDivergence::kForwardKl, FDivergence::kJsDivergence, FDivergence::kAlphaDivergence}) {
    diverging.f_divergence = divergence;
    all.push_back(diverging);
  }
  all.push_back(options_of(GetParam(), 1));
  all.back().discopop_tau = 3;
  for (const DpoOptions& options : all)
    for (const double chosen : {-1e4, -100.0, 0.0, 100.0, 1e4})
      for (const double rejected : {-1e4, -100.0, 0.0, 100.0, 1e4}) {
        const PairLoss got = pair_loss(options, {chosen, rejected, 0, 0, 5, 9, 1});
        EXPECT_TRUE(std::isfinite(got.loss) && std::isfinite(got.dchosen) && std::isfinite(got.drejected))
            << chosen << ", " << rejected << " under " << name_of(options.f_divergence) << ": " << got.loss << ", "
            << got.dchosen << ", " << got.drejected;
      }
}

TEST_P(LossOfOnePair, IsScaledByTheWeightOfItsPair) {
  const DpoOptions options = options_of(GetParam());
  PairLogps pair = random_pairs(3, 2)[2];
  const PairLoss one = pair_loss(options, pair);
  pair.weight = 0.25;
  const PairLoss quarter = pair_loss(options, pair);
  EXPECT_EQ(quarter.loss, one.loss / 4);
  EXPECT_EQ(quarter.dchosen, one.dchosen / 4);
  EXPECT_EQ(quarter.drejected, one.drejected / 4);
}

TEST(PreferenceLossAtTheReference, IsWhatItsPaperSays) {
  const PairLogps same{-30, -40, -30, -40, 6, 8, 1};
  const double ln2 = std::numbers::ln2;
  const std::pair<PreferenceLoss, double> expected[] = {
      {kSigmoid, ln2},           {kHinge, 1},         {kIpo, 25},    {kNcaPair, 2 * ln2}, {kRobust, ln2},
      {kBcoPair, 2 * ln2},       {kSppoHard, 2 * 25}, {kApoZero, 1}, {kApoDown, 1},       {kSigmoidNorm, ln2},
      {kDiscopop, (ln2 + 1) / 2}};
  for (const auto& [loss, value] : expected)
    EXPECT_NEAR(pair_loss(options_of(loss), same).loss, value, 1e-13) << name_of(loss);
}

TEST(PreferenceLossFarOut, FollowsItsAsymptotes) {
  const auto at = [](PreferenceLoss loss, double chosen) {
    return pair_loss(options_of(loss, 1), {chosen, 0, 0, 0, 1, 1, 1});
  };
  EXPECT_EQ(at(kSigmoid, -1e4).loss, 1e4);
  EXPECT_EQ(at(kSigmoid, -1e4).dchosen, -1);
  EXPECT_EQ(at(kSigmoid, 1e4).loss, 0);
  EXPECT_EQ(at(kSigmoid, 1e4).dchosen, 0);
  EXPECT_EQ(at(kDiscopop, -1e4).loss, 1e4);
  EXPECT_EQ(at(kDiscopop, 1e4).loss, 0);
  EXPECT_NEAR(at(kExoPair, 1e4).loss, -std::log(1 - 1e-3), 1e-15);
  EXPECT_NEAR(at(kExoPair, -1e4).loss, -std::log(1e-3), 1e-13);
}

TEST(FDivergences, EqualTheirPlainFormulas) {
  for (const PreferenceLoss loss : {kSigmoid, kSigmoidNorm, kHinge, kIpo, kExoPair, kRobust, kDiscopop})
    for (const FDivergence divergence :
         {FDivergence::kForwardKl, FDivergence::kJsDivergence, FDivergence::kAlphaDivergence})
      for (const double coefficient : {0.5, 0.9, 1.5}) {
        DpoOptions options = options_of(loss);
        options.f_divergence = divergence;
        options.f_alpha_divergence_coef = coefficient;
        validate(options);
        SCOPED_TRACE(name_of(loss));
        SCOPED_TRACE(name_of(divergence));
        expect_plain(options, random_pairs(20, 1.5));
      }
}

TEST(FDivergences, OfAlphaOneIsReverseKl) {
  DpoOptions options = options_of(kSigmoid), plain = options;
  options.f_divergence = FDivergence::kAlphaDivergence;
  options.f_alpha_divergence_coef = 1 + 1e-7;
  const PairLogps pair = random_pairs(1, 3)[0];
  EXPECT_EQ(pair_loss(options, pair).loss, pair_loss(plain, pair).loss);
}

TEST(Mixes, AreWeightedSums) {
  DpoOptions options;
  options.losses = {{kSigmoid, 0.8}, {kBcoPair, 0.2}, {kIpo, -0.5}, {kSigmoid, 0.1}};
  expect_plain(options, random_pairs(20, 3));
  options.losses.push_back({kAot, 0.3});
  expect_plain(options, random_pairs(20, 3));
}

TEST(LossesOfAllPairs, EqualThePlainFormulas) {
  for (const PreferenceLoss loss : {kAot, kAotUnpaired})
    for (const double smoothing : {0.0, 0.1})
      for (const size_t count : {1, 2, 25}) {
        DpoOptions options = options_of(loss, 0.3);
        options.label_smoothing = smoothing;
        SCOPED_TRACE(name_of(loss));
        expect_plain(options, random_pairs(count, 4));
      }
}

TEST(LossesOfAllPairs, SortTiesByIndex) {
  // chosen ratios 1, 0, 0 and rejected ratios 0, 2, 0: ranks pair (1, 0), (2, 2), (0, 1)
  const std::vector<PairLogps> pairs = {{1, 0, 0, 0, 1, 1, 1}, {0, 2, 0, 0, 1, 1, 1}, {0, 0, 0, 0, 1, 1, 1}};
  const std::vector<PairLoss> got = pair_losses(options_of(kAotUnpaired, 1), pairs);
  const auto slope = [](double z) { return -1 / (1 + std::exp(z)); };
  EXPECT_NEAR(got[1].dchosen, slope(0), 1e-15);
  EXPECT_NEAR(got[0].drejected, -slope(0), 1e-15);
  EXPECT_NEAR(got[0].dchosen, slope(-1), 1e-15);
  EXPECT_NEAR(got[1].drejected, -slope(-1), 1e-15);
  EXPECT_NEAR(got[0].loss, std::log1p(std::exp(1)), 1e-15);
}

TEST(LossesOfAllPairs, OfNaNAreNaNOfThatPair) {
  std::vector<PairLogps> pairs = random_pairs(6, 2);
  pairs[2].chosen = std::nan("");
  for (const PreferenceLoss loss : {kAot, kAotUnpaired})
    EXPECT_TRUE(std::isnan(pair_losses(options_of(loss), pairs)[2].loss));
}

TEST(ConservativeLoss, IsThePlainOneAtNoSmoothing) {
  DpoOptions options = options_of(kSigmoid);
  const PairLogps pair = random_pairs(1, 5)[0];
  const double plain = pair_loss(options, pair).loss;
  options.label_smoothing = 0.3;
  PairLogps flipped = pair;
  std::swap(flipped.chosen, flipped.rejected);
  std::swap(flipped.reference_chosen, flipped.reference_rejected);
  const double mixed = pair_loss(options, pair).loss;
  options.label_smoothing = 0;
  EXPECT_NEAR(mixed, 0.7 * plain + 0.3 * pair_loss(options, flipped).loss, 1e-14);
}

TEST(Names, GoBothWaysAndTheNearestIsNamed) {
  for (const char* name : {"sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
                           "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"})
    EXPECT_EQ(name_of(value_named<PreferenceLoss>(name, "loss_type")), name);
  for (const char* name : {"reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"})
    EXPECT_EQ(name_of(value_named<FDivergence>(name, "f_divergence_type")), name);
  try {
    value_named<PreferenceLoss>("sigmiod", "loss_type");
    FAIL() << "there is no such loss";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("did you mean sigmoid?"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("aot_unpaired"), std::string::npos) << error.what();
  }
}

TEST(WeightedLosses, HaveAWeightEachOrOne) {
  const std::vector losses = {PreferenceLoss::kSigmoid, PreferenceLoss::kSft};
  EXPECT_EQ(weighted_losses(losses, {})[1].weight, 1);
  EXPECT_EQ(weighted_losses(losses, std::vector<double>{0.5, 2})[1].weight, 2);
  EXPECT_THROW(weighted_losses(losses, std::vector<double>{0.5}), UsageError);
}

TEST(Validate, RefusesWhatTrlRefusesAndWhatHasNoFiniteLoss) {
  const auto expect_refused = [](const char* option, auto change) {
    DpoOptions options;
    change(options);
    const std::string message = message_of<UsageError>([&] { validate(options); });
    EXPECT_TRUE(message.starts_with(option)) << message;
  };
  validate(DpoOptions{});
  expect_refused("--beta", [](DpoOptions& o) { o.beta = 0; });
  expect_refused("--beta", [](DpoOptions& o) { o.beta = std::nan(""); });
  expect_refused("--loss_type", [](DpoOptions& o) { o.losses.clear(); });
  expect_refused("--loss_weights", [](DpoOptions& o) { o.losses[0].weight = std::nan(""); });
  expect_refused("--label_smoothing", [](DpoOptions& o) { o.label_smoothing = -0.1; });
  expect_refused("--label_smoothing", [](DpoOptions& o) { o.label_smoothing = 1; });
  expect_refused("--label_smoothing", [](DpoOptions& o) { o.losses = {{kExoPair, 1}}; });
  expect_refused("--label_smoothing", [](DpoOptions& o) { o.losses = {{kRobust, 1}}, o.label_smoothing = 0.5; });
  expect_refused("--ld_alpha", [](DpoOptions& o) { o.ld_alpha = 1.1; });
  expect_refused("--discopop_tau", [](DpoOptions& o) { o.discopop_tau = 0; });
  for (const PreferenceLoss loss : {kNcaPair, kBcoPair, kSppoHard, kAot, kAotUnpaired, kApoZero, kApoDown})
    expect_refused("--f_divergence_type", [&](DpoOptions& o) {
      o.losses = {{kSigmoid, 1}, {loss, 1}};
      o.f_divergence = FDivergence::kJsDivergence;
    });
  for (const PreferenceLoss loss : {kAot, kAotUnpaired, kSft})
    expect_refused("--use_weighting", [&](DpoOptions& o) { o.losses = {{loss, 1}}, o.uses_weighting = true; });
}

}  // namespace
}  // namespace plumb
