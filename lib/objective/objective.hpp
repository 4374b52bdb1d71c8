// The training objective of a stage, computed from the last block's output: a loss with its gradient, and the logged
// metrics. One class per loss (sft, reward, dpo, grpo) behind one interface, so that Trainer::step is the same for all.
// Losses are sums over micro-batches, divided by a weight of the whole global batch that is known before the first
// backward pass, so they depend neither on gradient accumulation nor on the number of ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lib/base/exact_sum.hpp"
#include "lib/model/batch.hpp"
#include "lib/objective/metric.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

/// The divisors of a step's loss: sums over the global batch.
struct BatchWeight {
  int64_t items = 0;          // trained tokens (sft), pairs (reward, dpo) or completions (grpo, rloo)
  int64_t chosen_tokens = 0;  // dpo: trained tokens of chosen answers, the divisor of its sft term
};

/// Sums over micro-batches, whose indices are defined by each objective. Exact, so any order of addition gives the same
/// bits.
struct ObjectiveSums {
  int64_t num_tokens = 0;
  std::vector<ExactSum> sums;
  std::vector<int64_t> counts;
  std::vector<double> maxima;  // -infinity if nothing was added
};

class Objective {
 public:
  virtual ~Objective() = default;

  /// The contribution of one micro-batch to the weight of the global batch.
  virtual BatchWeight weigh(const MicroBatch& batch) const = 0;

  /// Zero sums of the sizes that apply() needs.
  virtual ObjectiveSums empty_sums() const = 0;

  /// The rows of hidden_TD that apply() and statistics_of() read, sorted and unique. Other rows may hold anything, and
  /// their gradient is zero.
  virtual std::vector<int64_t> read_rows(const MicroBatch& batch) const = 0;

  /// Adds loss and metrics of one micro-batch to `sums`. With `gradients` it returns the gradient of hidden_TD and
  /// writes those of the head (float32), both for this micro-batch's part of the step's loss; without, it returns an
  /// undefined tensor. hidden_TD: output of the last block. weight: of the global batch, unused without gradients.
  virtual at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                           const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) = 0;

  /// The metrics of `sums` over all ranks, which must contain at least one item. The first is "loss".
  virtual std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const = 0;

  /// True if the loss of a pair depends on the other pairs of the global batch (aot). Then every micro-batch first
  /// passes through the model forward only, before any loss is computed.
  virtual bool needs_global_statistics() const { return false; }
  /// The values of this micro-batch that the losses of other micro-batches depend on.
  virtual std::vector<double> statistics_of(const at::Tensor& /*hidden_TD*/, const MicroBatch& /*batch*/,
                                            const HeadTensors& /*parameters*/) {
    return {};
  }
  /// Sets the statistics of all micro-batches of the global batch, by MicroBatch::number.
  virtual void set_global_statistics(const std::vector<std::vector<double>>& /*statistics*/) {}
};

}  // namespace plumb
