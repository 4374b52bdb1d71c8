#include "apps/train/router_balance.hpp"

#include <algorithm>

namespace plumb {

void RouterBalance::count(const std::vector<RouterLoad>& layers) {
  if (layers.empty()) return;
  const auto num_experts = static_cast<int64_t>(layers.front().num_chosen_E.size());
  counts_LE_.resize(layers.size() * num_experts);
  tokens_L_.resize(layers.size());
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    tokens_L_[layer] += layers[layer].num_tokens;
    for (int64_t e = 0; e < num_experts; ++e) counts_LE_[layer * num_experts + e] += layers[layer].num_chosen_E[e];
  }
}

void RouterBalance::sum_counts(const Communicator& comm) {
  if (tokens_L_.empty()) return;
  comm.sum(std::span(counts_LE_));
  comm.sum(std::span(tokens_L_));
  if (!has_loss()) return;
  std::vector<int64_t> counts_E(num_experts(), 0);
  for (size_t i = 0; i < counts_LE_.size(); ++i) counts_E[i % counts_E.size()] += counts_LE_[i];
  int64_t num_tokens = 0;
  for (const int64_t tokens : tokens_L_) num_tokens += tokens;
  gradient_E_ = router_loss_gradient(counts_E, num_tokens, coefficient_);
}

void RouterBalance::add_loss(const std::vector<RouterLoad>& layers) {
  for (const RouterLoad& layer : layers)
    for (size_t e = 0; e < gradient_E_.size(); ++e) loss_.add(gradient_E_[e] * layer.probability_E[e]);
}

RouterBalance::Result RouterBalance::finish(const Communicator& comm) {
  Result result;
  if (tokens_L_.empty()) return result;
  if (has_loss()) {
    comm.sum(loss_);
    result.weighted_loss = loss_.value();
    result.metrics.push_back({"aux_loss", result.weighted_loss / coefficient_});
  }
  double largest = 0;
  const int64_t experts = num_experts();
  for (size_t layer = 0; layer < tokens_L_.size(); ++layer) {
    const auto begin = counts_LE_.begin() + static_cast<ptrdiff_t>(layer) * experts;
    int64_t assigned = 0;
    for (auto count = begin; count != begin + experts; ++count) assigned += *count;
    if (assigned == 0) continue;
    const double share = static_cast<double>(*std::max_element(begin, begin + experts)) / static_cast<double>(assigned);
    largest = std::max(largest, share * static_cast<double>(experts));
  }
  result.metrics.push_back({"max_expert_load", largest});
  return result;
}

}  // namespace plumb
