#include "lib/objective/reward.hpp"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lib/base/check.hpp"
#include "lib/nn/tensor_kernels.hpp"
#include "lib/nn/tensor_ops.hpp"
#include "lib/objective/logistic.hpp"

namespace plumb {

namespace {

/// Indices into ObjectiveSums.
enum Sum { kLoss, kReward, kMargin, kNumSums };
enum Count { kPairs, kAccuratePairs, kNumCounts };
enum Maximum { kLargestNegated, kLargest, kNumMaxima };

/// The scored rows after the final norm and the head, in float32.
class ScoredRows {
 public:
  ScoredRows(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
             const OutputConfig& output, std::optional<int64_t> pad_token_id)
      : positions_(scored_positions(batch, pad_token_id)) {
    check(parameters.head_VD.size(0) == 1, "the head of a reward model has one row");
    selected_ = take_rows(hidden_TD, positions_).to(at::kFloat);
    norm_ = {output.norm, parameters.norm_D.to(at::kFloat), {}};
    if (parameters.norm_bias_D.defined()) norm_.bias_C = parameters.norm_bias_D.to(at::kFloat);
    score_ = parameters.head_VD.to(at::kFloat).contiguous();
    normed_ = normalize(selected_, norm_);
  }

  std::vector<float> rewards() const { return ops_of(score_).score_rows(normed_.y, score_); }

  /// Adds to the gradients, which must be zero at first. drewards: one per document.
  void backward(const std::vector<float>& drewards, const HeadTensors& gradients, at::Tensor& dhidden_TD) const {
    const at::Tensor dnormed = at::empty_like(selected_);
    const at::Tensor dnorm = gradients.norm_D.defined() ? gradients.norm_D : at::zeros_like(norm_.weight_C);
    ops_of(score_).score_rows_backward(drewards, normed_.y, score_, dnormed, gradients.head_VD);
    const at::Tensor dselected =
        ops_of(dnormed).norm_backward(dnormed, {selected_, normed_.stats}, norm_, {}, dnorm, gradients.norm_bias_D);
    dhidden_TD.index_add_(0, as_tensor(positions_).to(dhidden_TD.device()), dselected.to(dhidden_TD.scalar_type()));
  }

 private:
  std::vector<int64_t> positions_;
  at::Tensor selected_, score_;
  Norm norm_;
  Normed normed_;
};

}  // namespace

std::vector<int64_t> scored_positions(const MicroBatch& batch, std::optional<int64_t> pad_token_id) {
  std::vector<int64_t> positions;
  for (int64_t document = 0; document < batch.num_documents(); ++document) {
    int64_t position = batch.document_tokens(document) - 1;
    const auto is_padding = [&] { return batch.token_ids[batch.token_at(document, position)] == *pad_token_id; };
    while (pad_token_id && position > 0 && is_padding()) --position;
    positions.push_back(batch.token_at(document, position));
  }
  return positions;
}

std::vector<int64_t> scored_rows(const MicroBatch& batch, std::optional<int64_t> pad_token_id) {
  return sorted_unique(scored_positions(batch, pad_token_id));
}

std::vector<float> document_rewards(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                    const OutputConfig& output, std::optional<int64_t> pad_token_id) {
  if (batch.is_empty()) return {};
  return ScoredRows(hidden_TD, batch, parameters, output, pad_token_id).rewards();
}

RewardObjective::RewardObjective(const OutputConfig& output, std::optional<double> center_rewards_coefficient,
                                 std::optional<int64_t> pad_token_id)
    : output_(output),
      center_rewards_coefficient_(center_rewards_coefficient.value_or(0)),
      pad_token_id_(pad_token_id) {
  if (!std::isfinite(center_rewards_coefficient_) || center_rewards_coefficient_ < 0)
    throw_error<UsageError>("--center_rewards_coefficient: expected a number of at least 0, got {}",
                            center_rewards_coefficient_);
}

BatchWeight RewardObjective::weigh(const MicroBatch& batch) const { return {batch.num_pairs(), 0}; }

ObjectiveSums RewardObjective::empty_sums() const {
  return {0, std::vector<ExactSum>(kNumSums), std::vector<int64_t>(kNumCounts),
          std::vector<double>(kNumMaxima, -std::numeric_limits<double>::infinity())};
}

at::Tensor RewardObjective::apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                                  const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) {
  at::Tensor dhidden_TD;
  if (gradients) {
    dhidden_TD = at::zeros_like(hidden_TD);
    for (const at::Tensor& gradient : {gradients->head_VD, gradients->norm_D, gradients->norm_bias_D})
      if (gradient.defined()) gradient.zero_();
  }
  if (batch.is_empty()) return dhidden_TD;
  check(batch.num_documents() % 2 == 0, "documents of a preference micro-batch come in pairs");
  check(batch.margins.empty() || std::ssize(batch.margins) == batch.num_pairs(), "every pair has a margin, or none");
  const ScoredRows rows(hidden_TD, batch, parameters, output_, pad_token_id_);
  const std::vector<float> rewards = rows.rewards();
  std::vector<float> drewards;
  for (size_t pair = 0; pair < rewards.size() / 2; ++pair) {
    const auto chosen = static_cast<double>(rewards[2 * pair]), rejected = static_cast<double>(rewards[2 * pair + 1]);
    const double lead = chosen - rejected - (batch.margins.empty() ? 0.0 : batch.margins[pair]);
    const double both = chosen + rejected, center = center_rewards_coefficient_;
    sums.sums[kLoss].add(-log_sigmoid(lead) + center * both * both);
    sums.sums[kReward].add(chosen);
    sums.sums[kReward].add(rejected);
    sums.sums[kMargin].add(chosen - rejected);
    sums.counts[kAccuratePairs] += chosen > rejected ? 1 : 0;
    ++sums.counts[kPairs];
    for (const double reward : {chosen, rejected}) {
      sums.maxima[kLargestNegated] = std::max(sums.maxima[kLargestNegated], -reward);
      sums.maxima[kLargest] = std::max(sums.maxima[kLargest], reward);
    }
    const double apart = sigmoid(-lead), together = 2 * center * both, num_pairs = static_cast<double>(weight.items);
    drewards.push_back(static_cast<float>((together - apart) / num_pairs));
    drewards.push_back(static_cast<float>((together + apart) / num_pairs));
  }
  sums.num_tokens += batch.num_document_tokens();
  if (gradients) rows.backward(drewards, *gradients, dhidden_TD);
  return dhidden_TD;
}

std::vector<Metric> RewardObjective::metrics(const ObjectiveSums& sums, bool /*is_evaluation*/) const {
  const auto pairs = static_cast<double>(sums.counts[kPairs]);
  return {{"loss", sums.sums[kLoss].value() / pairs},
          {"min_reward", -sums.maxima[kLargestNegated]},
          {"mean_reward", sums.sums[kReward].value() / (2 * pairs)},
          {"max_reward", sums.maxima[kLargest]},
          {"accuracy", static_cast<double>(sums.counts[kAccuratePairs]) / pairs},
          {"margin", sums.sums[kMargin].value() / pairs}};
}

}  // namespace plumb
