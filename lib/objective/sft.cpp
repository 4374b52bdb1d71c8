#include "lib/objective/sft.hpp"

#include <algorithm>

namespace plumb {

namespace {

enum Sum { kLoss, kEntropy, kNumSums };
enum Count { kCorrectTokens, kTrainedTokens, kDocuments, kExactDocuments, kNumCounts };

double ratio(double sum, int64_t weight) { return sum / static_cast<double>(std::max<int64_t>(weight, 1)); }

}  // namespace

BatchWeight SftObjective::weigh(const MicroBatch& batch) const {
  int64_t count = std::count(batch.loss_mask.begin(), batch.loss_mask.end(), uint8_t{1});
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    const int64_t begin = batch.document_begin[document];
    if (begin < std::ssize(batch.loss_mask) && batch.loss_mask[begin]) --count;
  }
  return {.items = count};
}

ObjectiveSums SftObjective::empty_sums() const {
  ObjectiveSums sums;
  sums.sums.resize(kNumSums);
  sums.counts.resize(kNumCounts);
  return sums;
}

at::Tensor SftObjective::apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                               const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) {
  const Targets targets = find_targets(batch);
  const TokenLossResult result = token_loss(hidden_TD, targets, parameters, output_, token_loss_,
                                            gradients ? 1.0 / static_cast<double>(weight.items) : 0.0,
                                            gradients ? *gradients : HeadTensors{}, scratch_);
  for (const TokenStats& token : result.stats) {
    sums.sums[kLoss].add(token.loss);
    sums.sums[kEntropy].add(token.entropy);
    sums.counts[kCorrectTokens] += token.is_correct ? 1 : 0;
  }
  sums.counts[kTrainedTokens] += std::ssize(result.stats);
  sums.num_tokens += batch.is_empty() ? 0 : batch.num_tokens();
  for (size_t document = 0; document + 1 < targets.document_begin.size(); ++document) {
    const size_t begin = targets.document_begin[document], end = targets.document_begin[document + 1];
    if (begin == end) continue;
    bool is_exact = true;
    for (size_t target = begin; target < end; ++target) is_exact = is_exact && result.stats[target].is_correct;
    ++sums.counts[kDocuments];
    sums.counts[kExactDocuments] += is_exact ? 1 : 0;
  }
  return result.dhidden_TD;
}

std::vector<Metric> SftObjective::metrics(const ObjectiveSums& sums, bool is_evaluation) const {
  const int64_t weight = sums.counts[kTrainedTokens];
  std::vector<Metric> metrics = {
      {"loss", ratio(sums.sums[kLoss].value(), weight)},
      {"entropy", ratio(sums.sums[kEntropy].value(), weight)},
      {"mean_token_accuracy", ratio(static_cast<double>(sums.counts[kCorrectTokens]), weight)}};
  if (is_evaluation)
    metrics.push_back(
        {"exact_match", ratio(static_cast<double>(sums.counts[kExactDocuments]), sums.counts[kDocuments])});
  return metrics;
}

}  // namespace plumb
