#include "lib/objective/sft.hpp"

namespace plumb {

void SftSums::add(const TokenStats& token) {
  loss.add(token.loss);
  entropy.add(token.entropy);
  num_correct += token.is_correct ? 1 : 0;
  ++num_trained_tokens;
}

at::Tensor sft_objective(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                         const HeadTensors* gradients, double norm_epsilon, TokenLoss kind, double gradient_scale,
                         TokenLossScratch& scratch, SftSums& sums) {
  const Targets targets = find_targets(batch);
  const TokenLossResult result =
      token_loss(hidden_TD, targets, parameters, norm_epsilon, kind, gradients ? gradient_scale : 0.0,
                 gradients ? *gradients : HeadTensors{}, scratch);
  for (const TokenStats& token : result.stats) sums.add(token);
  sums.num_tokens += batch.is_empty() ? 0 : batch.num_tokens();
  size_t target = 0;
  for (int64_t document = 1; document <= batch.num_documents(); ++document) {
    const int64_t end = batch.document_begin[static_cast<size_t>(document)];
    const size_t first = target;
    bool is_exact = true;
    for (; target < targets.positions.size() && targets.positions[target] < end; ++target)
      is_exact = is_exact && result.stats[target].is_correct;
    if (target == first) continue;
    ++sums.num_documents;
    sums.num_exact_documents += is_exact ? 1 : 0;
  }
  return result.dhidden_TD;
}

int64_t count_targets(const MicroBatch& batch) {
  int64_t count = 0;
  for (uint8_t is_trained : batch.loss_mask) count += is_trained;
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    const auto begin = static_cast<size_t>(batch.document_begin[static_cast<size_t>(document)]);
    if (begin < batch.loss_mask.size() && batch.loss_mask[begin]) --count;
  }
  return count;
}

}  // namespace plumb
