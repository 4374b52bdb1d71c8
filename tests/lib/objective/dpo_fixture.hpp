// A random head and pairs, and their DPO losses computed with all logits at once in float64.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "lib/base/random.hpp"
#include "lib/kernels/reference.hpp"
#include "lib/objective/dpo.hpp"
#include "tests/lib/objective/preference_formulas.hpp"

namespace plumb {

inline constexpr double kNormEpsilon = 1e-5;
inline constexpr OutputConfig kOutput = {.norm = {.epsilon = kNormEpsilon}, .logits = {}};

struct DpoInput {
  MicroBatch batch;
  at::Tensor hidden_TD;
  HeadTensors head;

  /// Prompts of 1 to 4 tokens, answers of 1 to longest_answer; the reference's log-probabilities lie about where the
  /// policy's do.
  DpoInput(int64_t num_pairs, int64_t longest_answer, int64_t vocab, int64_t dim, at::ScalarType dtype) {
    uint64_t counter = 0;
    const auto below = [&](int64_t bound) {
      return static_cast<int64_t>(random_bits(3, 4, counter++) % static_cast<uint64_t>(bound));
    };
    batch.document_begin = {0};
    for (int64_t document = 0; document < 2 * num_pairs; ++document) {
      const int64_t prompt = 1 + below(4), answer = 1 + below(longest_answer);
      for (int64_t t = 0; t < prompt + answer; ++t) {
        batch.token_ids.push_back(below(vocab));
        batch.loss_mask.push_back(t >= prompt ? 1 : 0);
      }
      batch.document_begin.push_back(batch.num_tokens());
      batch.row_ids.push_back(document / 2);
      const double tail = -3 * random_uniform(3, 5, static_cast<uint64_t>(document));
      batch.reference_logps.push_back(
          {-static_cast<double>(answer) * (2 + std::log(static_cast<double>(vocab))) - tail, tail});
    }
    hidden_TD = at::randn({batch.num_tokens(), dim}).to(dtype);
    head.norm_D = (1 + 0.2 * at::randn({dim})).to(dtype);
    head.head_VD = (at::randn({vocab, dim}) * (2 / std::sqrt(static_cast<double>(dim)))).to(dtype);
  }

  /// Its pairs from `first` on, at most `count`, as a micro-batch of their own.
  DpoInput part(int64_t first, int64_t count, int64_t number) const {
    DpoInput part = *this;
    const auto begin = static_cast<size_t>(2 * first), end = static_cast<size_t>(2 * (first + count));
    const int64_t token = batch.document_begin[begin], last = batch.document_begin[end];
    part.batch.token_ids = {batch.token_ids.begin() + token, batch.token_ids.begin() + last};
    part.batch.loss_mask = {batch.loss_mask.begin() + token, batch.loss_mask.begin() + last};
    part.batch.document_begin.clear();
    for (size_t i = begin; i <= end; ++i) part.batch.document_begin.push_back(batch.document_begin[i] - token);
    part.batch.row_ids = {batch.row_ids.begin() + 2 * first, batch.row_ids.begin() + 2 * (first + count)};
    part.batch.reference_logps = {batch.reference_logps.begin() + 2 * first,
                                  batch.reference_logps.begin() + 2 * (first + count)};
    part.batch.number = number;
    part.hidden_TD = hidden_TD.narrow(0, token, last - token);
    return part;
  }
};

struct DpoOutput {
  at::Tensor dhidden, dnorm, dhead;
  std::map<std::string, double> metrics;
};

inline DpoOutput plain_dpo(const DpoInput& input, const DpoOptions& options) {
  const auto leaf = [](const at::Tensor& x) { return x.to(at::kDouble).set_requires_grad(true); };
  const at::Tensor hidden = leaf(input.hidden_TD), norm = leaf(input.head.norm_D), head = leaf(input.head.head_VD);
  const at::Tensor logits = at::matmul(reference::rms_norm(hidden, norm, kNormEpsilon), head.t());
  const at::Tensor log_probabilities = at::log_softmax(logits, -1);
  const at::Tensor entropy = -(log_probabilities.detach().exp() * log_probabilities.detach()).sum(-1);
  const at::Tensor squares = (2 * log_probabilities.detach()).exp().sum(-1).log();
  const at::Tensor prediction = logits.detach().argmax(-1), mean_logit = logits.detach().mean(-1);

  const auto& begin = input.batch.document_begin;
  const auto num_documents = static_cast<size_t>(input.batch.num_documents());
  std::vector<std::vector<int64_t>> positions(num_documents), labels(num_documents);
  for (size_t i = 0; i < num_documents; ++i)
    for (int64_t t = begin[i] + 1; t < begin[i + 1]; ++t)
      if (input.batch.loss_mask[t]) {
        positions[i].push_back(t - 1);
        labels[i].push_back(input.batch.token_ids[t]);
      }
  std::vector<at::Tensor> sums[2], nll;           // of the chosen and the rejected
  std::vector<double> references[2], lengths[2];  // likewise
  std::vector<at::Tensor> weights;
  double entropies = 0, correct = 0, logit_sums[2] = {}, tokens[2] = {};
  for (size_t i = 0; i < num_documents; ++i) {
    const at::Tensor rows = at::tensor(positions[i]), columns = at::tensor(labels[i]);
    const at::Tensor logps = log_probabilities.index_select(0, rows).gather(1, columns.unsqueeze(1)).squeeze(1);
    const int64_t length = logps.numel();
    const int64_t shared = std::min(length, static_cast<int64_t>(positions[i ^ 1].size()));
    const double alpha = options.ld_alpha.value_or(1);
    sums[i % 2].push_back(logps.narrow(0, 0, shared).sum() + alpha * logps.narrow(0, shared, length - shared).sum());
    const SequenceLogps& reference = input.batch.reference_logps[i];
    references[i % 2].push_back(reference.shared + alpha * reference.tail);
    lengths[i % 2].push_back(static_cast<double>(length));
    weights.push_back((logps.detach() - squares.index_select(0, rows)).mean().exp());
    entropies += entropy.index_select(0, rows).sum().item<double>();
    logit_sums[i % 2] += mean_logit.index_select(0, rows).sum().item<double>();
    tokens[i % 2] += static_cast<double>(length);
    if (i % 2 == 1) continue;
    nll.push_back(-logps);
    correct += prediction.index_select(0, rows).eq(columns).sum().item<double>();
  }
  const PairTensors pairs{at::stack(sums[0]),
                          at::stack(sums[1]),
                          at::tensor(references[0], at::kDouble),
                          at::tensor(references[1], at::kDouble),
                          at::tensor(lengths[0], at::kDouble),
                          at::tensor(lengths[1], at::kDouble)};
  at::Tensor loss = at::zeros({}, at::kDouble);
  for (const WeightedLoss& term : options.losses) {
    if (term.loss == PreferenceLoss::kSft) {
      loss = loss + term.weight * at::cat(nll).mean();
      continue;
    }
    at::Tensor losses = plain_losses(options, term.loss, pairs);
    if (options.uses_weighting) {
      const at::Tensor all = at::stack(weights).reshape({-1, 2});
      losses = losses * all.select(1, 0) * all.select(1, 1);
    }
    loss = loss + term.weight * losses.mean();
  }
  loss.backward();
  const at::Tensor chosen = options.beta * (pairs.chosen - pairs.reference_chosen).detach();
  const at::Tensor rejected = options.beta * (pairs.rejected - pairs.reference_rejected).detach();
  const auto mean = [](const at::Tensor& x) { return x.mean().item<double>(); };
  return {hidden.grad(),
          norm.grad(),
          head.grad(),
          {{"loss", loss.item<double>()},
           {"entropy", entropies / (tokens[0] + tokens[1])},
           {"mean_token_accuracy", correct / tokens[0]},
           {"rewards/chosen", mean(chosen)},
           {"rewards/rejected", mean(rejected)},
           {"rewards/accuracies", mean((chosen > rejected).to(at::kDouble))},
           {"rewards/margins", mean(chosen - rejected)},
           {"logps/chosen", mean(pairs.chosen.detach())},
           {"logps/rejected", mean(pairs.rejected.detach())},
           {"logits/chosen", logit_sums[0] / tokens[0]},
           {"logits/rejected", logit_sums[1] / tokens[1]}}};
}

/// Float32 gradients of a head, NaN where nothing is written.
inline HeadTensors no_gradients(const HeadTensors& head) {
  return {at::full(head.norm_D.sizes(), std::nan(""), at::kFloat),
          at::full(head.head_VD.sizes(), std::nan(""), at::kFloat)};
}

inline DpoOutput run_dpo(const DpoInput& input, const DpoOptions& options) {
  DpoObjective objective(options, kOutput);
  if (objective.needs_global_statistics())
    objective.set_global_statistics({objective.statistics_of(input.hidden_TD, input.batch, input.head)});
  ObjectiveSums sums = objective.empty_sums();
  const HeadTensors gradients = no_gradients(input.head);
  DpoOutput output;
  output.dhidden =
      objective.apply(input.hidden_TD, input.batch, input.head, &gradients, objective.weigh(input.batch), sums);
  output.dnorm = gradients.norm_D;
  output.dhead = gradients.head_VD;
  for (const Metric& metric : objective.metrics(sums, false)) output.metrics[metric.name] = metric.value;
  return output;
}

}  // namespace plumb
