// GrpoObjective in chunks against all logits at once with autograd in float64, and over several micro-batches.
#include "lib/objective/grpo.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "lib/base/random.hpp"
#include "lib/kernels/reference.hpp"

namespace plumb {
namespace {

constexpr double kEpsilon = 1e-5;

OutputConfig output_of(double cap = 0) {
  return {.norm = {.epsilon = kEpsilon}, .logits = {.scale = cap == 0 ? 1.0 : 0.7, .cap = cap}};
}

struct Input {
  MicroBatch batch;
  at::Tensor hidden_TD;
  HeadTensors head;

  /// Completions of 1 to `longest` tokens; the third has no trained ones. Old log-probabilities lie about where the
  /// policy's do.
  Input(int64_t num_completions, int64_t longest, int64_t vocab, int64_t dim, at::ScalarType dtype) {
    uint64_t counter = 0;
    const auto below = [&](int64_t bound) {
      return static_cast<int64_t>(random_bits(3, 4, counter++) % static_cast<uint64_t>(bound));
    };
    batch.document_begin = {0};
    for (int64_t document = 0; document < num_completions; ++document) {
      const int64_t prompt = 1 + below(4), completion = 1 + below(longest);
      for (int64_t t = 0; t < prompt + completion; ++t) {
        batch.token_ids.push_back(below(vocab));
        batch.loss_mask.push_back(t >= prompt && document != 2 ? 1 : 0);
      }
      batch.document_begin.push_back(batch.num_tokens());
      batch.row_ids.push_back(document);
      batch.advantages.push_back(2 * random_uniform(3, 5, static_cast<uint64_t>(document)) - 1);
    }
    batch.round_completions = 2 * num_completions;
    batch.round_tokens = 3 * batch.num_tokens();
    hidden_TD = at::randn({batch.num_tokens(), dim}).to(dtype);
    head.norm_D = (1 + 0.2 * at::randn({dim})).to(dtype);
    head.head_VD = (at::randn({vocab, dim}) * (2 / std::sqrt(static_cast<double>(dim)))).to(dtype);
  }

  /// Old and reference log-probabilities at random distances from the policy's.
  void move_away(const PolicyOptions& options, const OutputConfig& output) {
    TokenLossScratch scratch;
    const OutputConfig at = at_temperature(output, options.temperature);
    batch.old_logps = token_logps(hidden_TD, batch, head, at, scratch);
    batch.reference_token_logps = batch.old_logps;
    for (size_t t = 0; t < batch.old_logps.size(); ++t) {
      batch.old_logps[t] += static_cast<float>(0.5 * random_uniform(7, 1, t) - 0.25);
      batch.reference_token_logps[t] += static_cast<float>(random_uniform(7, 2, t) - 0.5);
    }
  }

  /// Its completions [first, last) as a micro-batch of their own.
  Input part(int64_t first, int64_t last) const {
    Input part = *this;
    const auto cut = [&](auto& values, int64_t begin, int64_t end) {
      if (!values.empty()) values = {values.begin() + begin, values.begin() + end};
    };
    const int64_t token = batch.document_begin[first], end = batch.document_begin[last];
    const Targets targets = find_targets(batch);
    const auto target = static_cast<int64_t>(targets.document_begin[first]);
    const auto last_target = static_cast<int64_t>(targets.document_begin[last]);
    cut(part.batch.token_ids, token, end);
    cut(part.batch.loss_mask, token, end);
    cut(part.batch.document_begin, first, last + 1);
    for (int64_t& begin : part.batch.document_begin) begin -= token;
    cut(part.batch.row_ids, first, last);
    cut(part.batch.advantages, first, last);
    cut(part.batch.old_logps, target, last_target);
    cut(part.batch.reference_token_logps, target, last_target);
    part.hidden_TD = hidden_TD.narrow(0, token, end - token);
    return part;
  }
};

struct Output {
  at::Tensor dhidden, dnorm, dhead;
  std::map<std::string, double> metrics;
};

/// The loss of one step with autograd, from the ratio on, as TRL writes it.
Output plain(const Input& input, const PolicyOptions& o, const OutputConfig& output) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor hidden = leaf(input.hidden_TD), norm = leaf(input.head.norm_D), head = leaf(input.head.head_VD);
  at::Tensor logits = at::matmul(reference::rms_norm(hidden, norm, kEpsilon), head.t()) * output.logits.scale;
  if (output.logits.cap != 0) logits = at::tanh(logits / output.logits.cap) * output.logits.cap;
  const at::Tensor logps = at::log_softmax(logits / o.temperature, -1);
  const at::Tensor all_entropies = -(logps.exp() * logps).sum(-1);
  const Targets targets = find_targets(input.batch);
  const at::Tensor positions = at::tensor(targets.positions), labels = at::tensor(targets.labels);
  const at::Tensor lp = logps.index_select(0, positions).gather(1, labels.unsqueeze(1)).squeeze(1);
  const at::Tensor entropies = all_entropies.index_select(0, positions);
  at::Tensor keep = at::full_like(lp.detach(), 1.0);
  if (o.has_entropy_mask())
    keep = entropies.detach().ge(at::quantile(entropies.detach(), 1 - o.top_entropy_quantile)).to(at::kDouble);
  const auto tensor_of = [](const std::vector<float>& values) { return at::tensor(values).to(at::kDouble); };
  const at::Tensor lp0 = input.batch.old_logps.empty() ? lp.detach() : tensor_of(input.batch.old_logps);
  at::Tensor loss = at::zeros({}, at::kDouble);
  double kl_sum = 0;
  for (int64_t i = 0; i < input.batch.num_documents(); ++i) {
    const auto begin = static_cast<int64_t>(targets.document_begin[i]);
    const int64_t n = static_cast<int64_t>(targets.document_begin[i + 1]) - begin;
    const double advantage = input.batch.advantages[i];
    const at::Tensor d = (lp - lp0).narrow(0, begin, n);
    at::Tensor ratio = d.exp();
    if (o.loss == PolicyLoss::kRloo)
      ratio = d.sum().exp();
    else if (o.importance_level == ImportanceLevel::kSequence)
      ratio = (d.sum() / static_cast<double>(std::max<int64_t>(n, 1))).exp();
    const at::Tensor own = o.delta ? ratio.clamp_max(*o.delta) : ratio;
    const at::Tensor term = -at::minimum(own * advantage, ratio.clamp(o.clip_low(), o.clip_high()) * advantage);
    const double weight = token_weight(o, {.completion_tokens = n,
                                           .batch_completions = input.batch.num_documents(),
                                           .batch_tokens = std::ssize(targets.labels),
                                           .round_completions = input.batch.round_completions,
                                           .round_tokens = input.batch.round_tokens});
    const double share = weight / static_cast<double>(input.batch.num_documents());
    loss = loss + share * (o.loss == PolicyLoss::kRloo ? term : (term * keep.narrow(0, begin, n)).sum());
    if (o.beta == 0) continue;
    const at::Tensor distance = (tensor_of(input.batch.reference_token_logps) - lp).narrow(0, begin, n);
    const at::Tensor kl = (distance.exp() - distance - 1) * (o.uses_bias_correction_kl ? ratio : at::ones_like(ratio));
    kl_sum += kl.sum().item<double>();
    loss = loss + share * o.beta * kl.sum();
  }
  std::map<std::string, double> metrics = {{"entropy", entropies.mean().item<double>()}};
  if (o.has_entropy_bonus()) {
    metrics["policy_loss"] = loss.item<double>();
    loss = loss - o.entropy_coef * (entropies * keep).sum() / keep.sum();
    metrics["entropy_coef"] = o.entropy_coef;
  }
  if (o.beta != 0) metrics["kl"] = kl_sum / static_cast<double>(targets.labels.size());
  loss.backward();
  metrics["loss"] = loss.item<double>();
  return {hidden.grad(), norm.grad(), head.grad(), metrics};
}

HeadTensors no_gradients(const HeadTensors& head) {
  return {at::full(head.norm_D.sizes(), std::nan(""), at::kFloat),
          at::full(head.head_VD.sizes(), std::nan(""), at::kFloat)};
}

Output run(const Input& input, const PolicyOptions& options, const OutputConfig& output) {
  GrpoObjective objective(options, output);
  if (objective.needs_global_statistics())
    objective.set_global_statistics({objective.statistics_of(input.hidden_TD, input.batch, input.head)});
  ObjectiveSums sums = objective.empty_sums();
  const HeadTensors gradients = no_gradients(input.head);
  Output got;
  got.dhidden =
      objective.apply(input.hidden_TD, input.batch, input.head, &gradients, objective.weigh(input.batch), sums);
  got.dnorm = gradients.norm_D;
  got.dhead = gradients.head_VD;
  for (const Metric& metric : objective.metrics(sums, false)) got.metrics[metric.name] = metric.value;
  return got;
}

/// Kinds of ratio, of weight, and of what is added to the loss.
std::vector<PolicyOptions> all_kinds() {
  std::vector<PolicyOptions> all(9);
  all[1].loss = PolicyLoss::kGrpo;
  all[1].beta = 0.3;
  all[1].temperature = 0.7;
  all[2].loss = PolicyLoss::kLuspo;
  all[2].importance_level = ImportanceLevel::kSequence;
  all[2].beta = 0.1;
  all[3] = PolicyOptions::rloo();
  all[4].loss = PolicyLoss::kBnpo;
  all[4].uses_bias_correction_kl = false;
  all[4].beta = 0.2;
  all[5].loss = PolicyLoss::kDrGrpo;
  all[5].delta = 1.22;
  all[6].top_entropy_quantile = 0.4;
  all[6].entropy_coef = 0.3;
  all[7].entropy_coef = -0.5;
  all[7].temperature = 1.4;
  all[8].top_entropy_quantile = 0.5;
  all[8].importance_level = ImportanceLevel::kSequence;
  return all;
}

void expect_plain(Input input, const PolicyOptions& options, const OutputConfig& output, double error) {
  for (const bool is_moved : {false, true}) {
    SCOPED_TRACE(is_moved ? "away from the old policy" : "at a ratio of one");
    input.move_away(options, output);
    if (!is_moved) input.batch.old_logps.clear();
    const Output expected = plain(input, options, output), got = run(input, options, output);
    EXPECT_LE(reference::relative_distance(got.dhidden, expected.dhidden), error);
    EXPECT_LE(reference::relative_distance(got.dnorm, expected.dnorm), error);
    EXPECT_LE(reference::relative_distance(got.dhead, expected.dhead), error);
    for (const auto& [name, value] : expected.metrics)
      EXPECT_NEAR(got.metrics.at(name), value, error * std::max(1.0, std::abs(value))) << name;
  }
}

TEST(Grpo, InFloat32EqualsThePlainOne) {
  at::manual_seed(1);
  const Input input(7, 10, 50, 24, at::kFloat);
  const std::vector<PolicyOptions> kinds = all_kinds();
  for (size_t i = 0; i < kinds.size(); ++i) {
    SCOPED_TRACE(testing::Message() << "kind " << i);
    expect_plain(input, kinds[i], output_of(), 1e-5);
    if (i == 1 || i == 6) expect_plain(input, kinds[i], output_of(/*cap=*/3), 1e-5);
  }
}

TEST(Grpo, InSeveralChunksAndInBFloat16EqualsThePlainOne) {
  at::manual_seed(2);
  const Input chunks(6, 45, 40000, 8, at::kFloat);
  ASSERT_GT(find_targets(chunks.batch).labels.size(), 104u) << "two chunks";
  const std::vector<PolicyOptions> kinds = all_kinds();
  expect_plain(chunks, kinds[7], output_of(), 3e-5);
  expect_plain(Input(7, 10, 50, 24, at::kBFloat16), kinds[1], output_of(), 0.03);
}

TEST(Grpo, SeveralMicroBatchesAreOneButForBnpoAndTheBonus) {
  at::manual_seed(3);
  Input whole(7, 10, 50, 24, at::kFloat);
  for (const PolicyOptions& options : all_kinds()) {
    if (options.loss == PolicyLoss::kBnpo || options.has_entropy_bonus()) continue;
    whole.move_away(options, output_of());
    Input nothing = whole;
    nothing.batch = MicroBatch::empty();
    nothing.hidden_TD = whole.hidden_TD.narrow(0, 0, 1);
    const std::vector<Input> parts = {whole.part(0, 2), whole.part(2, 3), nothing, whole.part(3, 7)};
    const Output expected = run(whole, options, output_of());
    GrpoObjective objective(options, output_of());
    BatchWeight weight;
    std::vector<std::vector<double>> statistics;
    for (const Input& part : parts) {
      weight.items += objective.weigh(part.batch).items;
      statistics.push_back(objective.statistics_of(part.hidden_TD, part.batch, part.head));
    }
    EXPECT_EQ(weight.items, 7);
    objective.set_global_statistics(statistics);
    ObjectiveSums sums = objective.empty_sums();
    at::Tensor dhead = at::zeros_like(expected.dhead);
    int64_t token = 0;
    for (const Input& part : parts) {
      const HeadTensors gradients = no_gradients(part.head);
      const at::Tensor dhidden = objective.apply(part.hidden_TD, part.batch, part.head, &gradients, weight, sums);
      dhead += gradients.head_VD;
      if (part.batch.is_empty()) {
        EXPECT_TRUE(dhidden.eq(0).all().item<bool>());
        continue;
      }
      EXPECT_TRUE(at::allclose(dhidden, expected.dhidden.narrow(0, token, part.batch.num_tokens()), 1e-4, 1e-7));
      token += part.batch.num_tokens();
    }
    EXPECT_LE(reference::relative_distance(dhead, expected.dhead), 1e-5);
    for (const Metric& metric : objective.metrics(sums, false))
      EXPECT_NEAR(metric.value, expected.metrics.at(metric.name), 1e-6) << metric.name;
    EXPECT_EQ(sums.num_tokens, whole.batch.num_tokens());
  }
}

TEST(Grpo, OldLogpsOfTheSamePolicyAreARatioOfOneToTheBit) {
  at::manual_seed(4);
  Input input(7, 10, 50, 24, at::kFloat);
  for (const PolicyOptions& options : all_kinds()) {
    input.move_away(options, output_of());
    input.batch.old_logps.clear();
    const Output without = run(input, options, output_of());
    TokenLossScratch scratch;
    input.batch.old_logps = token_logps(input.hidden_TD, input.batch, input.head,
                                        at_temperature(output_of(), options.temperature), scratch);
    const Output with = run(input, options, output_of());
    EXPECT_TRUE(with.dhead.equal(without.dhead) && with.dhidden.equal(without.dhidden));
    EXPECT_EQ(with.metrics, without.metrics);
  }
}

TEST(Grpo, WithoutGradientsGivesTheSameMetrics) {
  at::manual_seed(5);
  Input input(7, 10, 50, 24, at::kFloat);
  input.move_away(PolicyOptions{}, output_of());
  GrpoObjective objective(PolicyOptions{}, output_of());
  ObjectiveSums sums = objective.empty_sums();
  EXPECT_FALSE(objective.apply(input.hidden_TD, input.batch, input.head, nullptr, {}, sums).defined());
  std::vector<std::string> names;
  const Output expected = run(input, PolicyOptions{}, output_of());
  for (const Metric& metric : objective.metrics(sums, true)) {
    EXPECT_EQ(metric.value, expected.metrics.at(metric.name)) << metric.name;
    names.push_back(metric.name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"loss", "entropy", "clip_ratio/low_mean", "clip_ratio/high_mean",
                                             "clip_ratio/region_mean", "clip_ratio/low_min", "clip_ratio/high_max"}));
}

TEST(Grpo, OfCompletionsWithoutTrainedTokensIsFinite) {
  at::manual_seed(6);
  Input input(3, 10, 50, 24, at::kFloat);
  std::fill(input.batch.loss_mask.begin(), input.batch.loss_mask.end(), uint8_t{0});
  const double sum = input.batch.advantages[0] + input.batch.advantages[1] + input.batch.advantages[2];
  for (const PolicyOptions& options : all_kinds()) {
    const Output got = run(input, options, output_of());
    EXPECT_DOUBLE_EQ(got.metrics.at("loss"), options.loss == PolicyLoss::kRloo ? -sum / 3 : 0.0);
    EXPECT_TRUE(got.dhidden.eq(0).all().item<bool>() && got.dhead.eq(0).all().item<bool>());
  }
}

TEST(Grpo, OfALogitThatIsNotFiniteIsNaN) {
  at::manual_seed(7);
  Input input(7, 10, 50, 24, at::kFloat);
  for (const PolicyOptions& options : all_kinds()) {
    input.head.head_VD[7][3] = 0.5;
    input.move_away(options, output_of());
    input.head.head_VD[7][3] = std::numeric_limits<float>::infinity();
    EXPECT_TRUE(std::isnan(run(input, options, output_of()).metrics.at("loss")));
  }
}

TEST(Grpo, NeedsAdvantagesARoundAndTheReference) {
  at::manual_seed(8);
  const Input input(3, 10, 50, 24, at::kFloat);
  PolicyOptions with_reference;
  with_reference.beta = 0.1;
  EXPECT_THROW(run(input, with_reference, output_of()), std::logic_error);
  Input changed = input;
  changed.batch.advantages.pop_back();
  EXPECT_THROW(run(changed, {}, output_of()), std::logic_error);
  changed = input;
  changed.batch.round_completions = 0;
  EXPECT_THROW(run(changed, {}, output_of()), std::logic_error);
}

}  // namespace
}  // namespace plumb
