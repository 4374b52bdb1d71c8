// DPO in chunks against all logits at once with autograd in float64, and over several micro-batches.
#include "lib/objective/dpo.hpp"

#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numbers>
#include <utility>

#include "tests/lib/objective/dpo_fixture.hpp"

namespace plumb {
namespace {

using enum PreferenceLoss;

DpoOptions options_of(std::vector<WeightedLoss> losses) {
  DpoOptions options;
  options.losses = std::move(losses);
  return options;
}

/// Variants of how tokens and pairs are weighted.
std::vector<DpoOptions> all_kinds() {
  std::vector<DpoOptions> all = {
      options_of({{kSigmoid, 1}}), options_of({{kIpo, 1}}),
      options_of({{kSft, 1}}),     options_of({{kSigmoid, 0.8}, {kBcoPair, 0.2}, {kSft, 1.5}}),
      options_of({{kAot, 1}}),     options_of({{kAotUnpaired, 0.5}, {kApoDown, 1}, {kSft, 0.1}})};
  for (const double alpha : {0.0, 0.3}) {
    all.push_back(options_of({{kSigmoid, 1}, {kSft, 0.2}}));
    all.back().ld_alpha = alpha;
  }
  all.push_back(options_of({{kSigmoidNorm, 1}}));
  all.back().f_divergence = FDivergence::kJsDivergence;
  all.push_back(options_of({{kSigmoid, 1}}));
  all.back().uses_weighting = true;
  return all;
}

/// metric_error: relative to 1 or to the value if that is larger; gradient_error: relative_distance().
void expect_plain(const DpoInput& input, const DpoOptions& options, double metric_error, double gradient_error) {
  SCOPED_TRACE(testing::Message() << name_of(options.losses[0].loss) << ", ld_alpha " << options.ld_alpha.value_or(-1)
                                  << (options.uses_weighting ? ", weighted" : ""));
  const DpoOutput expected = plain_dpo(input, options), got = run_dpo(input, options);
  EXPECT_LE(reference::relative_distance(got.dhidden, expected.dhidden), gradient_error);
  EXPECT_LE(reference::relative_distance(got.dnorm, expected.dnorm), gradient_error);
  EXPECT_LE(reference::relative_distance(got.dhead, expected.dhead), gradient_error);
  ASSERT_EQ(got.metrics.size(), expected.metrics.size());
  for (const auto& [name, value] : expected.metrics)
    EXPECT_NEAR(got.metrics.at(name), value, metric_error * std::max(1.0, std::abs(value))) << name;
}

// A log-probability of float32 is off by some 1e-6, and its sum over an answer of 10 by a few times that; the
// exponentials of the gradient are as exact.
TEST(Dpo, InFloat32InOneChunkEqualsThePlainOne) {
  at::manual_seed(1);
  const DpoInput input(6, 10, 50, 24, at::kFloat);
  for (const DpoOptions& options : all_kinds()) expect_plain(input, options, 1e-5, 1e-5);
}

// A chunk holds 104 rows of this vocabulary.
TEST(Dpo, InFloat32InSeveralChunksEqualsThePlainOne) {
  at::manual_seed(2);
  const DpoInput input(6, 60, 40000, 16, at::kFloat);
  ASSERT_GT(find_targets(input.batch).labels.size(), 208u) << "three chunks";
  DpoOptions options = options_of({{kSigmoid, 1}, {kSft, 0.2}});
  options.ld_alpha = 0.3;
  expect_plain(input, options, 2e-5, 2e-5);
  expect_plain(input, options_of({{kAotUnpaired, 1}}), 2e-5, 2e-5);
}

// Each logit is rounded to 8 bits, errors of either sign up to 2^-6; an answer's log-probability adds up to 10 or 60 of
// them, and predictions may change between logits that are that near.
TEST(Dpo, InBFloat16EqualsThePlainOne) {
  at::manual_seed(3);
  const DpoInput small(6, 10, 50, 24, at::kBFloat16), chunks(6, 60, 40000, 16, at::kBFloat16);
  ASSERT_GT(find_targets(chunks.batch).labels.size(), 209u) << "two chunks";
  for (const DpoOptions& options : all_kinds()) expect_plain(small, options, 0.03, 0.03);
  expect_plain(chunks, options_of({{kSigmoid, 1}, {kSft, 0.2}}), 0.03, 0.03);
}

TEST(Dpo, MetricsComeInTheOrderOfTrl) {
  const DpoObjective objective(DpoOptions{}, kOutput);
  std::vector<std::string> names;
  for (const Metric& metric : objective.metrics(objective.empty_sums(), true)) names.push_back(metric.name);
  EXPECT_EQ(names, (std::vector<std::string>{"loss", "entropy", "mean_token_accuracy", "rewards/chosen",
                                             "rewards/rejected", "rewards/accuracies", "rewards/margins",
                                             "logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected"}));
}

TEST(Dpo, SeveralMicroBatchesAreOne) {
  at::manual_seed(4);
  const DpoInput whole(7, 10, 50, 24, at::kFloat);
  DpoInput nothing = whole;
  nothing.batch = MicroBatch::empty();
  nothing.batch.number = 1;
  nothing.hidden_TD = whole.hidden_TD.narrow(0, 0, 1);
  const std::vector<DpoInput> parts = {whole.part(0, 3, 0), nothing, whole.part(3, 4, 2)};
  for (const DpoOptions& options : all_kinds()) {
    SCOPED_TRACE(name_of(options.losses[0].loss));
    const DpoOutput expected = run_dpo(whole, options);
    DpoObjective objective(options, kOutput);
    BatchWeight weight;
    std::vector<std::vector<double>> statistics;
    for (const DpoInput& part : parts) {
      const BatchWeight one = objective.weigh(part.batch);
      weight.items += one.items;
      weight.chosen_tokens += one.chosen_tokens;
      if (objective.needs_global_statistics())
        statistics.push_back(objective.statistics_of(part.hidden_TD, part.batch, part.head));
    }
    EXPECT_EQ(weight.items, 7);
    if (objective.needs_global_statistics()) objective.set_global_statistics(statistics);
    ObjectiveSums sums = objective.empty_sums();
    at::Tensor dnorm = at::zeros_like(expected.dnorm), dhead = at::zeros_like(expected.dhead);
    std::vector<at::Tensor> dhidden;
    for (const DpoInput& part : parts) {
      const HeadTensors gradients = no_gradients(part.head);
      const at::Tensor gradient = objective.apply(part.hidden_TD, part.batch, part.head, &gradients, weight, sums);
      dnorm += gradients.norm_D;
      dhead += gradients.head_VD;
      EXPECT_EQ(gradient.sizes(), part.hidden_TD.sizes());
      if (part.batch.is_empty())
        EXPECT_TRUE(gradient.eq(0).all().item<bool>() && gradients.head_VD.eq(0).all().item<bool>() &&
                    gradients.norm_D.eq(0).all().item<bool>());
      else
        dhidden.push_back(gradient);
    }
    EXPECT_LE(reference::relative_distance(at::cat(dhidden), expected.dhidden), 1e-5);
    EXPECT_LE(reference::relative_distance(dnorm, expected.dnorm), 1e-5);
    EXPECT_LE(reference::relative_distance(dhead, expected.dhead), 1e-5);
    EXPECT_EQ(sums.num_tokens, whole.batch.num_tokens());
    for (const Metric& metric : objective.metrics(sums, false))
      EXPECT_NEAR(metric.value, expected.metrics.at(metric.name), 1e-5 * std::max(1.0, std::abs(metric.value)))
          << metric.name;
  }
}

TEST(Dpo, TokensThatCountNothingHaveNoGradient) {
  at::manual_seed(5);
  const DpoInput input(4, 10, 50, 24, at::kFloat);
  const at::Tensor of_sft = run_dpo(input, options_of({{kSft, 1}})).dhidden;
  DpoOptions without_tail = options_of({{kSigmoid, 1}});
  without_tail.ld_alpha = 0;
  const at::Tensor of_shared = run_dpo(input, without_tail).dhidden;
  const auto& begin = input.batch.document_begin;
  const auto has_gradient = [](const at::Tensor& rows) { return rows.ne(0).any().item<bool>(); };
  const std::vector<int64_t> positions = find_targets(input.batch).positions;
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(has_gradient(of_sft.narrow(0, begin[i], begin[i + 1] - begin[i])), i % 2 == 0);
    const auto length = [&](size_t document) {
      return std::count_if(positions.begin(), positions.end(),
                           [&](int64_t t) { return t >= begin[document] && t < begin[document + 1]; });
    };
    const int64_t tail = std::max<int64_t>(0, length(i) - length(i ^ 1));
    const int64_t first = begin[i + 1] - 1 - length(i);  // predicts the first token of the answer
    EXPECT_TRUE(has_gradient(of_shared.narrow(0, first, length(i) - tail)));
    EXPECT_FALSE(has_gradient(of_shared.narrow(0, begin[i + 1] - 1 - tail, tail)));
  }
}

TEST(Dpo, IsLnTwoWithoutRewardsAtTheReference) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    at::manual_seed(6);
    DpoInput input(5, 10, 50, 24, dtype);
    TokenLossScratch scratch;
    input.batch.reference_logps = sequence_logps(input.hidden_TD, input.batch, input.head, kOutput, scratch);
    const auto metrics = run_dpo(input, DpoOptions{}).metrics;
    EXPECT_NEAR(metrics.at("loss"), std::numbers::ln2, 1e-15);
    for (const char* name : {"rewards/chosen", "rewards/rejected", "rewards/margins"}) EXPECT_EQ(metrics.at(name), 0);
    double chosen = 0;
    for (size_t i = 0; i < 10; i += 2)
      chosen += input.batch.reference_logps[i].shared + input.batch.reference_logps[i].tail;
    EXPECT_NEAR(metrics.at("logps/chosen"), chosen / 5, 1e-12);
  }
}

TEST(Dpo, WithoutGradientsHasTheSameMetrics) {
  at::manual_seed(7);
  const DpoInput input(5, 10, 50, 24, at::kFloat);
  DpoObjective objective(DpoOptions{}, kOutput);
  ObjectiveSums sums = objective.empty_sums();
  EXPECT_FALSE(objective.apply(input.hidden_TD, input.batch, input.head, nullptr, {}, sums).defined());
  const auto expected = run_dpo(input, DpoOptions{}).metrics;
  for (const Metric& metric : objective.metrics(sums, true)) EXPECT_EQ(metric.value, expected.at(metric.name));
}

TEST(Dpo, OfAnAnswerWithoutTokensIsFinite) {
  at::manual_seed(8);
  DpoInput input(3, 10, 50, 24, at::kFloat);
  for (int64_t t = 0; t < input.batch.document_begin[1]; ++t) input.batch.loss_mask[t] = 0;
  for (const DpoOptions& options : all_kinds()) {
    const DpoOutput got = run_dpo(input, options);
    EXPECT_TRUE(std::isfinite(got.metrics.at("loss")) && got.dhidden.isfinite().all().item<bool>());
  }
}

TEST(Dpo, OfALogitThatIsNotFiniteIsNaN) {
  at::manual_seed(9);
  DpoInput input(3, 10, 50, 24, at::kFloat);
  input.head.head_VD[7][3] = std::numeric_limits<float>::infinity();
  for (const DpoOptions& options : all_kinds())
    EXPECT_TRUE(std::isnan(run_dpo(input, options).metrics.at("loss"))) << name_of(options.losses[0].loss);
}

TEST(Dpo, NeedsPairsWithReferences) {
  at::manual_seed(10);
  DpoInput input(3, 10, 50, 24, at::kFloat);
  input.batch.reference_logps.clear();
  EXPECT_THROW(run_dpo(input, DpoOptions{}), std::logic_error);
}

}  // namespace
}  // namespace plumb
