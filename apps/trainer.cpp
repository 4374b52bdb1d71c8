#include "apps/trainer.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

/// Collective: exact, so the same bits on any number of ranks.
void sum_over_ranks(const Communicator& comm, SftSums& sums) {
  comm.sum(sums.loss);
  comm.sum(sums.entropy);
  int64_t* const fields[] = {&sums.num_correct, &sums.num_trained_tokens, &sums.num_tokens, &sums.num_documents,
                             &sums.num_exact_documents};
  std::array<int64_t, std::size(fields)> counts;
  for (size_t i = 0; i < counts.size(); ++i) counts[i] = *fields[i];
  comm.sum(counts);
  for (size_t i = 0; i < counts.size(); ++i) *fields[i] = counts[i];
}

/// As torch.nn.utils.clip_grad_norm_.
double clip_scale(double norm, double max_norm) {
  return max_norm == 0 ? 1.0 : std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace

StepStats Trainer::step(const std::vector<MicroBatch>& micro_batches) {
  int64_t weight = 0;  // of the whole global batch, known before the first backward
  for (const MicroBatch& batch : micro_batches) weight += count_targets(batch);
  comm_.sum({&weight, 1});
  check(weight > 0, "every step has a trained token");

  SftSums sums;
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    const MicroBatch& batch = micro_batches[i];
    model_.accumulate(batch, static_cast<int64_t>(i),
                      [&](const at::Tensor& hidden_TD, const HeadTensors& parameters, const HeadTensors* gradients) {
                        return sft_objective(hidden_TD, batch, parameters, gradients, model_.config().rms_norm_eps,
                                             options_.token_loss, 1.0 / static_cast<double>(weight), scratch_, sums);
                      });
  }

  sum_over_ranks(comm_, sums);
  const auto total = static_cast<double>(weight);
  StepStats stats;
  stats.loss = sums.loss.value() / total;
  stats.entropy = sums.entropy.value() / total;
  stats.mean_token_accuracy = static_cast<double>(sums.num_correct) / total;
  stats.num_tokens = sums.num_tokens;
  stats.grad_norm = model_.gradient_norm();
  stats.learning_rate = options_.schedule.at(num_steps_done_);
  if (!std::isfinite(stats.loss) || !std::isfinite(stats.grad_norm))
    throw_error<NumericError>(
        "step {}: loss {}, gradient norm {}: not finite, so nothing was updated; try a lower "
        "--learning_rate, or look at the rows with plumb inspect",
        num_steps_done_ + 1, stats.loss, stats.grad_norm);
  ++num_steps_done_;
  model_.update(options_.adamw, stats.learning_rate, num_steps_done_,
                clip_scale(stats.grad_norm, options_.max_grad_norm));
  return stats;
}

EvaluationStats evaluate_model(ShardedModel& model, const Communicator& comm, int64_t num_rounds,
                               const std::function<std::vector<MicroBatch>()>& next) {
  SftSums sums;
  TokenLossScratch scratch;
  for (int64_t round = 0; round < num_rounds; ++round)
    for (const MicroBatch& batch : next())
      model.evaluate(batch, [&](const at::Tensor& hidden_TD, const HeadTensors& parameters, const HeadTensors*) {
        return sft_objective(hidden_TD, batch, parameters, nullptr, model.config().rms_norm_eps, TokenLoss::kNll, 0.0,
                             scratch, sums);
      });
  sum_over_ranks(comm, sums);
  const auto weight = static_cast<double>(std::max<int64_t>(sums.num_trained_tokens, 1));
  return {sums.loss.value() / weight,
          sums.entropy.value() / weight,
          static_cast<double>(sums.num_correct) / weight,
          static_cast<double>(sums.num_exact_documents) / static_cast<double>(std::max<int64_t>(sums.num_documents, 1)),
          sums.num_trained_tokens,
          sums.num_tokens};
}

}  // namespace plumb
