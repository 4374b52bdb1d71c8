// Rewards, their loss and gradients against autograd in float64.
#include "lib/objective/reward.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "lib/base/check.hpp"
#include "lib/kernels/reference.hpp"

namespace plumb {
namespace {

constexpr double kNormEpsilon = 1e-5;
constexpr OutputConfig kOutput = {.norm = {.epsilon = kNormEpsilon}, .logits = {}};

struct Input {
  MicroBatch batch;
  at::Tensor hidden_TD;
  HeadTensors head;

  Input(int64_t num_pairs, int64_t dim, at::ScalarType dtype, bool has_margins) {
    batch.document_begin = {0};
    for (int64_t i = 0; i < 2 * num_pairs; ++i) {
      batch.document_begin.push_back(batch.document_begin.back() + 1 + (5 * i) % 7);
      batch.row_ids.push_back(i / 2);
    }
    if (has_margins)
      for (int64_t i = 0; i < num_pairs; ++i) batch.margins.push_back(0.3 * static_cast<double>(i) - 0.5);
    batch.token_ids.assign(batch.document_begin.back(), 1);
    batch.loss_mask.assign(batch.token_ids.size(), 1);
    hidden_TD = at::randn({batch.num_tokens(), dim}).to(dtype);
    head = {(1 + 0.2 * at::randn({dim})).to(dtype), (at::randn({1, dim}) / std::sqrt(double(dim))).to(dtype)};
  }

  Input part(int64_t first, int64_t count) const {
    Input part = *this;
    const auto begin = static_cast<size_t>(2 * first), end = static_cast<size_t>(2 * (first + count));
    const int64_t token = batch.document_begin[begin], last = batch.document_begin[end];
    part.batch.token_ids.resize(last - token);
    part.batch.loss_mask.resize(last - token);
    part.batch.document_begin.clear();
    for (size_t i = begin; i <= end; ++i) part.batch.document_begin.push_back(batch.document_begin[i] - token);
    part.batch.row_ids = {batch.row_ids.begin() + 2 * first, batch.row_ids.begin() + 2 * (first + count)};
    if (!batch.margins.empty())
      part.batch.margins = {batch.margins.begin() + first, batch.margins.begin() + first + count};
    part.hidden_TD = hidden_TD.narrow(0, token, last - token);
    return part;
  }
};

HeadTensors no_gradients(const HeadTensors& head) {
  return {at::full(head.norm_D.sizes(), std::nan(""), at::kFloat),
          at::full(head.head_VD.sizes(), std::nan(""), at::kFloat)};
}

struct Output {
  at::Tensor dhidden, dnorm, dscore;
  std::map<std::string, double> metrics;
};

Output plain_reward(const Input& input, double center) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor hidden = leaf(input.hidden_TD), norm = leaf(input.head.norm_D), score = leaf(input.head.head_VD);
  const at::Tensor all = at::matmul(reference::rms_norm(hidden, norm, kNormEpsilon), score.t()).squeeze(1);
  std::vector<int64_t> last;
  for (size_t i = 1; i < input.batch.document_begin.size(); ++i) last.push_back(input.batch.document_begin[i] - 1);
  const at::Tensor rewards = all.index_select(0, at::tensor(last)).reshape({-1, 2});
  const at::Tensor chosen = rewards.select(1, 0), rejected = rewards.select(1, 1);
  at::Tensor lead = chosen - rejected;
  if (!input.batch.margins.empty()) lead = lead - at::tensor(input.batch.margins, at::kDouble);
  const at::Tensor loss = -at::log_sigmoid(lead).mean() + center * (chosen + rejected).pow(2).mean();
  loss.backward();
  const auto value = [](const at::Tensor& x) { return x.detach().item<double>(); };
  return {hidden.grad(),
          norm.grad(),
          score.grad(),
          {{"loss", value(loss)},
           {"min_reward", value(rewards.min())},
           {"mean_reward", value(rewards.mean())},
           {"max_reward", value(rewards.max())},
           {"accuracy", value((chosen > rejected).to(at::kDouble).mean())},
           {"margin", value((chosen - rejected).mean())}}};
}

/// Parts after one another, as one step.
Output run_reward(const std::vector<Input>& parts, std::optional<double> center) {
  RewardObjective objective(kOutput, center, {});
  BatchWeight weight;
  for (const Input& part : parts) weight.items += objective.weigh(part.batch).items;
  ObjectiveSums sums = objective.empty_sums();
  Output output;
  std::vector<at::Tensor> dhidden;
  for (const Input& part : parts) {
    const HeadTensors gradients = no_gradients(part.head);
    dhidden.push_back(objective.apply(part.hidden_TD, part.batch, part.head, &gradients, weight, sums));
    output.dnorm = output.dnorm.defined() ? output.dnorm + gradients.norm_D : gradients.norm_D;
    output.dscore = output.dscore.defined() ? output.dscore + gradients.head_VD : gradients.head_VD;
  }
  output.dhidden = at::cat(dhidden);
  for (const Metric& metric : objective.metrics(sums, false)) output.metrics[metric.name] = metric.value;
  return output;
}

void expect_near(const Output& got, const Output& expected, double gradient_error) {
  EXPECT_LE(reference::relative_distance(got.dhidden, expected.dhidden), gradient_error);
  EXPECT_LE(reference::relative_distance(got.dnorm, expected.dnorm), 1e-6);
  EXPECT_LE(reference::relative_distance(got.dscore, expected.dscore), 1e-6);
  for (const auto& [name, value] : expected.metrics) EXPECT_NEAR(got.metrics.at(name), value, 1e-6) << name;
}

// All arithmetic is in float32; in bfloat16 only the gradient of hidden is then rounded.
TEST(Reward, EqualsThePlainOne) {
  at::manual_seed(1);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const bool has_margins : {false, true})
      for (const double center : {0.0, 0.01, 1.0}) {
        const Input input(9, 40, dtype, has_margins);
        expect_near(run_reward({input}, center), plain_reward(input, center), dtype == at::kFloat ? 1e-6 : 0x1p-8);
      }
}

TEST(Reward, SeveralMicroBatchesAreOne) {
  at::manual_seed(2);
  const Input whole(9, 40, at::kFloat, true);
  expect_near(run_reward({whole.part(0, 4), whole.part(4, 1), whole.part(5, 4)}, 0.1), plain_reward(whole, 0.1), 1e-6);
}

TEST(Reward, OnlyLastTokensHaveAGradient) {
  at::manual_seed(3);
  const Input input(4, 40, at::kFloat, false);
  const at::Tensor has_gradient = run_reward({input}, {}).dhidden.ne(0).any(1);
  std::vector<bool> is_last(input.batch.token_ids.size());
  for (size_t i = 1; i < input.batch.document_begin.size(); ++i) is_last[(input.batch.document_begin[i]) - 1] = true;
  for (size_t t = 0; t < is_last.size(); ++t)
    EXPECT_EQ(has_gradient[static_cast<int64_t>(t)].item<bool>(), is_last[t]) << t;
}

TEST(Reward, OfAnEmptyMicroBatchIsNothing) {
  Input input(2, 40, at::kFloat, false);
  input.batch = MicroBatch::empty();
  input.hidden_TD = input.hidden_TD.narrow(0, 0, 1);
  RewardObjective objective(kOutput, 0.1, {});
  EXPECT_EQ(objective.weigh(input.batch).items, 0);
  ObjectiveSums sums = objective.empty_sums();
  const HeadTensors gradients = no_gradients(input.head);
  const at::Tensor dhidden = objective.apply(input.hidden_TD, input.batch, input.head, &gradients, {5, 0}, sums);
  EXPECT_EQ(dhidden.sizes(), input.hidden_TD.sizes());
  for (const at::Tensor& gradient : {dhidden, gradients.norm_D, gradients.head_VD})
    EXPECT_TRUE(gradient.eq(0).all().item<bool>());
  EXPECT_EQ(sums.num_tokens, 0);
  EXPECT_EQ(sums.counts, objective.empty_sums().counts);
  EXPECT_TRUE(document_rewards(input.hidden_TD, input.batch, input.head, kOutput, {}).empty());
}

TEST(Reward, MetricsComeInTheOrderOfTrl) {
  RewardObjective objective(kOutput, {}, {});
  std::vector<std::string> names;
  for (const Metric& metric : objective.metrics(objective.empty_sums(), true)) names.push_back(metric.name);
  EXPECT_EQ(names, (std::vector<std::string>{"loss", "min_reward", "mean_reward", "max_reward", "accuracy", "margin"}));
}

TEST(Reward, StandsRewardsOfAnySize) {
  Input input(2, 8, at::kFloat, false);
  input.head.head_VD.fill_(1e6);
  const Output got = run_reward({input}, {});
  EXPECT_TRUE(std::isfinite(got.metrics.at("loss")) && got.dhidden.isfinite().all().item<bool>());
}

TEST(Reward, RefusesANegativeCoefficient) { EXPECT_THROW(RewardObjective(kOutput, -0.1, {}), UsageError); }

TEST(DocumentRewards, HaveTheSameBitsAloneAndAmongOthers) {
  at::manual_seed(4);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16})
    for (const int64_t dim : {40, 577}) {
      const Input input(9, dim, dtype, false);
      const std::vector<float> rewards = document_rewards(input.hidden_TD, input.batch, input.head, kOutput, {});
      ASSERT_EQ(rewards.size(), 18u);
      for (size_t i = 0; i < rewards.size(); ++i) {
        const int64_t begin = input.batch.document_begin[i], end = input.batch.document_begin[i + 1];
        MicroBatch alone;
        alone.token_ids.assign(end - begin, 1);
        alone.document_begin = {0, end - begin};
        alone.row_ids = {0};
        const at::Tensor hidden = input.hidden_TD.narrow(0, begin, end - begin);
        EXPECT_EQ(document_rewards(hidden, alone, input.head, kOutput, {}), std::vector<float>{rewards[i]});
      }
    }
}

TEST(ScoredPositions, AreTheLastThatAreNotPadTokens) {
  MicroBatch batch;
  batch.token_ids = {5, 2, 6, 2, 5, 2, 2, 2, 7, 2, 2};
  batch.document_begin = {0, 4, 7, 8, 9, 11};
  batch.row_ids = {0, 1, 2, 3, 4};
  EXPECT_EQ(scored_positions(batch, {}), (std::vector<int64_t>{3, 6, 7, 8, 10}));
  EXPECT_EQ(scored_positions(batch, 9), (std::vector<int64_t>{3, 6, 7, 8, 10}));
  EXPECT_EQ(scored_positions(batch, 2), (std::vector<int64_t>{2, 4, 7, 8, 9}));
}

TEST(Reward, IsThatOfTheScoredPosition) {
  at::manual_seed(5);
  Input input(3, 40, at::kFloat, false);
  // the last token of the fifth document becomes a pad token: as if the document were that much shorter
  ASSERT_GT(input.batch.document_begin[5] - input.batch.document_begin[4], 1);
  const auto last = static_cast<size_t>(input.batch.document_begin[5] - 1);
  const float before = document_rewards(input.hidden_TD, input.batch, input.head, kOutput, 2)[4];
  input.hidden_TD[static_cast<int64_t>(last) - 1].copy_(input.hidden_TD[static_cast<int64_t>(last)]);
  input.hidden_TD[static_cast<int64_t>(last)].fill_(3);
  input.batch.token_ids[last] = 2;
  EXPECT_EQ(document_rewards(input.hidden_TD, input.batch, input.head, kOutput, 2)[4], before);
}

}  // namespace
}  // namespace plumb
