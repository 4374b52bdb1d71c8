#include "lib/objective/dpo.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// Indices into ObjectiveSums.
enum Sum {
  kPairLoss,
  kChosenNll,
  kEntropy,
  kChosenReward,
  kRejectedReward,
  kChosenLogp,
  kRejectedLogp,
  kChosenLogit,
  kRejectedLogit,
  kNumSums
};
enum Count { kPairs, kAccuratePairs, kChosenTokens, kRejectedTokens, kCorrectTokens, kNumCounts };

/// The trained tokens of one document.
struct Answer {
  size_t begin, end;    // range of its targets in the micro-batch
  size_t tail;          // the first target past the length of the pair's shorter answer
  int64_t num_trained;  // includes a first token, which no position predicts
};

/// Answers of all documents; empty for an empty micro-batch.
std::vector<Answer> find_answers(const MicroBatch& batch, const Targets& targets) {
  std::vector<Answer> answers;
  if (batch.is_empty()) return answers;
  check(batch.num_documents() % 2 == 0, "documents of a preference micro-batch come in pairs");
  for (size_t document = 0; document + 1 < batch.document_begin.size(); ++document) {
    const int64_t begin = batch.document_begin[document], end = batch.document_begin[document + 1];
    answers.push_back({targets.document_begin[document], targets.document_begin[document + 1],
                       targets.document_begin[document + 1],
                       std::count(batch.loss_mask.begin() + begin, batch.loss_mask.begin() + end, uint8_t{1})});
  }
  for (size_t i = 0; i + 1 < answers.size(); i += 2) {
    Answer &chosen = answers[i], &rejected = answers[i + 1];
    const size_t shared = std::min(chosen.end - chosen.begin, rejected.end - rejected.begin);
    chosen.tail = chosen.begin + shared;
    rejected.tail = rejected.begin + shared;
  }
  return answers;
}

using Stats = std::span<const TokenStats>;

/// Sums the loss rather than the log-probability, because the loss is NaN if a logit was not finite.
SequenceLogps logps_of(const Answer& answer, Stats stats) {
  SequenceLogps logps;
  for (size_t i = answer.begin; i < answer.tail; ++i) logps.shared -= static_cast<double>(stats[i].loss);
  for (size_t i = answer.tail; i < answer.end; ++i) logps.tail -= static_cast<double>(stats[i].loss);
  return logps;
}

/// exp of the mean of log p - log sum p^2 (arXiv:2406.11827).
double wpo_weight(const Answer& answer, Stats stats) {
  double sum = 0;
  for (size_t i = answer.begin; i < answer.end; ++i)
    sum -= static_cast<double>(stats[i].loss) + static_cast<double>(stats[i].log_sum_of_squares);
  return std::exp(sum / std::max(1.0, static_cast<double>(answer.end - answer.begin)));
}

std::vector<PairLogps> pair_logps(const DpoOptions& options, const MicroBatch& batch,
                                  const std::vector<Answer>& answers, Stats stats) {
  check(batch.is_empty() || batch.reference_logps.size() == answers.size(),
        "a preference micro-batch has the reference's log-probabilities of its documents");
  const double tail_weight = options.ld_alpha.value_or(1);
  const auto weighted = [&](const SequenceLogps& logps) { return logps.shared + tail_weight * logps.tail; };
  std::vector<PairLogps> pairs;
  for (size_t i = 0; i < answers.size(); i += 2) {
    const Answer &chosen = answers[i], &rejected = answers[i + 1];
    PairLogps pair{weighted(logps_of(chosen, stats)),
                   weighted(logps_of(rejected, stats)),
                   weighted(batch.reference_logps[i]),
                   weighted(batch.reference_logps[i + 1]),
                   chosen.num_trained,
                   rejected.num_trained,
                   1};
    if (options.uses_weighting) pair.weight = wpo_weight(chosen, stats) * wpo_weight(rejected, stats);
    pairs.push_back(pair);
  }
  return pairs;
}

/// The derivative of the step's loss with respect to each target's negative log-probability.
std::vector<float> gradient_scales(const DpoOptions& options, const std::vector<Answer>& answers,
                                   const std::vector<PairLoss>& losses, const BatchWeight& weight) {
  const double tail_weight = options.ld_alpha.value_or(1);
  const double sft = weight.chosen_tokens > 0
                         ? options.weight_of(PreferenceLoss::kSft) / static_cast<double>(weight.chosen_tokens)
                         : 0.0;
  std::vector<float> scales;
  for (size_t i = 0; i < answers.size(); ++i) {
    const bool is_chosen = i % 2 == 0;
    const PairLoss& loss = losses[i / 2];
    const double scale = -(is_chosen ? loss.dchosen : loss.drejected) / static_cast<double>(weight.items);
    for (size_t target = answers[i].begin; target < answers[i].end; ++target)
      scales.push_back(
          static_cast<float>(scale * (target < answers[i].tail ? 1 : tail_weight) + (is_chosen ? sft : 0.0)));
  }
  return scales;
}

void add_tokens(const std::vector<Answer>& answers, Stats stats, ObjectiveSums& sums) {
  for (size_t i = 0; i < answers.size(); ++i) {
    const bool is_chosen = i % 2 == 0;
    for (const TokenStats& token : stats.subspan(answers[i].begin, answers[i].end - answers[i].begin)) {
      sums.sums[kEntropy].add(static_cast<double>(token.entropy));
      sums.sums[is_chosen ? kChosenLogit : kRejectedLogit].add(static_cast<double>(token.mean_logit));
      ++sums.counts[is_chosen ? kChosenTokens : kRejectedTokens];
      if (!is_chosen) continue;
      sums.sums[kChosenNll].add(static_cast<double>(token.loss));
      sums.counts[kCorrectTokens] += token.is_correct ? 1 : 0;
    }
  }
}

void add_pairs(const DpoOptions& options, const std::vector<PairLogps>& pairs, const std::vector<PairLoss>& losses,
               ObjectiveSums& sums) {
  for (size_t i = 0; i < pairs.size(); ++i) {
    const double chosen = options.beta * (pairs[i].chosen - pairs[i].reference_chosen);
    const double rejected = options.beta * (pairs[i].rejected - pairs[i].reference_rejected);
    sums.sums[kPairLoss].add(losses[i].loss);
    sums.sums[kChosenReward].add(chosen);
    sums.sums[kRejectedReward].add(rejected);
    sums.sums[kChosenLogp].add(pairs[i].chosen);
    sums.sums[kRejectedLogp].add(pairs[i].rejected);
    ++sums.counts[kPairs];
    sums.counts[kAccuratePairs] += chosen > rejected ? 1 : 0;
  }
}

constexpr size_t kNumStatistics = 6;  // per pair

}  // namespace

std::vector<SequenceLogps> sequence_logps(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                          const HeadTensors& parameters, const OutputConfig& output,
                                          TokenLossScratch& scratch) {
  const Targets targets = find_targets(batch);
  const TokenLossResult result = token_loss(hidden_TD, targets, parameters, output, TokenLoss::kNll, 0.0, {}, scratch);
  std::vector<SequenceLogps> logps;
  for (const Answer& answer : find_answers(batch, targets)) logps.push_back(logps_of(answer, result.stats));
  return logps;
}

DpoObjective::DpoObjective(DpoOptions options, const OutputConfig& output)
    : options_(std::move(options)), output_(output) {
  validate(options_);
}

BatchWeight DpoObjective::weigh(const MicroBatch& batch) const {
  const std::vector<Answer> answers = find_answers(batch, find_targets(batch));
  BatchWeight weight{batch.num_pairs(), 0};
  for (size_t i = 0; i < answers.size(); i += 2)
    weight.chosen_tokens += static_cast<int64_t>(answers[i].end - answers[i].begin);
  return weight;
}

ObjectiveSums DpoObjective::empty_sums() const {
  return {0, std::vector<ExactSum>(kNumSums), std::vector<int64_t>(kNumCounts), {}};
}

at::Tensor DpoObjective::apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                               const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) {
  const Targets targets = find_targets(batch);
  const std::vector<Answer> answers = find_answers(batch, targets);
  std::vector<PairLogps> pairs;
  std::vector<PairLoss> losses;
  const auto find_losses = [&](const std::vector<TokenStats>& stats) {
    pairs = pair_logps(options_, batch, answers, stats);
    if (needs_global_statistics()) {
      check(batch.is_empty() || (static_cast<size_t>(batch.number) < statistics_.size() &&
                                 statistics_[batch.number].size() == pairs.size()),
            "a loss of all pairs knows the statistics of every micro-batch");
      if (!batch.is_empty()) losses = statistics_[batch.number];
    } else {
      for (const PairLogps& pair : pairs) losses.push_back(pair_loss(options_, pair));
    }
  };

  TokenLossResult result;
  bool has_losses = false;
  if (gradients) {
    result = token_loss_in_two_phases(
        hidden_TD, targets, parameters, output_,
        [&](const std::vector<TokenStats>& stats) {
          find_losses(stats);
          has_losses = true;
          return TargetScales{gradient_scales(options_, answers, losses, weight)};
        },
        *gradients, scratch_);
  } else {
    result = token_loss(hidden_TD, targets, parameters, output_, TokenLoss::kNll, 0.0, {}, scratch_);
  }
  if (!has_losses) find_losses(result.stats);
  add_tokens(answers, result.stats, sums);
  add_pairs(options_, pairs, losses, sums);
  if (!batch.is_empty()) sums.num_tokens += batch.num_document_tokens();
  return result.dhidden_TD;
}

std::vector<Metric> DpoObjective::metrics(const ObjectiveSums& sums, bool /*is_evaluation*/) const {
  const auto ratio = [](double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0.0; };
  const auto mean = [&](Sum sum, int64_t count) { return ratio(sums.sums[sum].value(), count); };
  const int64_t pairs = sums.counts[kPairs];
  const int64_t chosen = sums.counts[kChosenTokens], rejected = sums.counts[kRejectedTokens];
  const double sft_weight = options_.weight_of(PreferenceLoss::kSft);
  const double sft = sft_weight == 0 ? 0 : sft_weight * mean(kChosenNll, chosen);
  const double chosen_reward = mean(kChosenReward, pairs), rejected_reward = mean(kRejectedReward, pairs);
  return {{"loss", mean(kPairLoss, pairs) + sft},
          {"entropy", mean(kEntropy, chosen + rejected)},
          {"mean_token_accuracy", ratio(static_cast<double>(sums.counts[kCorrectTokens]), chosen)},
          {"rewards/chosen", chosen_reward},
          {"rewards/rejected", rejected_reward},
          {"rewards/accuracies", ratio(static_cast<double>(sums.counts[kAccuratePairs]), pairs)},
          {"rewards/margins", chosen_reward - rejected_reward},
          {"logps/chosen", mean(kChosenLogp, pairs)},
          {"logps/rejected", mean(kRejectedLogp, pairs)},
          {"logits/chosen", mean(kChosenLogit, chosen)},
          {"logits/rejected", mean(kRejectedLogit, rejected)}};
}

std::vector<double> DpoObjective::statistics_of(const at::Tensor& hidden_TD, const MicroBatch& batch,
                                                const HeadTensors& parameters) {
  const Targets targets = find_targets(batch);
  const TokenLossResult result =
      token_loss(hidden_TD, targets, parameters, output_, TokenLoss::kNll, 0.0, {}, scratch_);
  std::vector<double> numbers;
  for (const PairLogps& pair : pair_logps(options_, batch, find_answers(batch, targets), result.stats))
    numbers.insert(numbers.end(), {pair.chosen, pair.rejected, pair.reference_chosen, pair.reference_rejected,
                                   static_cast<double>(pair.chosen_tokens), static_cast<double>(pair.rejected_tokens)});
  return numbers;
}

void DpoObjective::set_global_statistics(const std::vector<std::vector<double>>& statistics) {
  std::vector<PairLogps> pairs;
  for (const std::vector<double>& numbers : statistics) {
    check(numbers.size() % kNumStatistics == 0, "statistics are of whole pairs");
    for (size_t i = 0; i < numbers.size(); i += kNumStatistics)
      pairs.push_back({numbers[i], numbers[i + 1], numbers[i + 2], numbers[i + 3], static_cast<int64_t>(numbers[i + 4]),
                       static_cast<int64_t>(numbers[i + 5]), 1});
  }
  const std::vector<PairLoss> losses = pair_losses(options_, pairs);
  statistics_.clear();
  auto next = losses.begin();
  for (const std::vector<double>& numbers : statistics) {
    const auto count = static_cast<std::ptrdiff_t>(numbers.size() / kNumStatistics);
    statistics_.emplace_back(next, next + count);
    next += count;
  }
}

}  // namespace plumb
