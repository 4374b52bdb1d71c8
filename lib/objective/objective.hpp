// What a stage makes of the last block's output: a loss with its gradient, and the numbers that are logged. One class
// per stage (sft, reward, dpo) behind one interface, so that Trainer::step is the same for all. Losses are sums over
// micro-batches, divided by a weight of the whole global batch that is known before the first backward: neither
// accumulation nor the number of ranks shows in them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/exact_sum.hpp"
#include "lib/model/batch.hpp"
#include "lib/objective/token_loss.hpp"

namespace plumb {

/// What the loss of a step is divided by, over the global batch.
struct BatchWeight {
  int64_t items = 0;          // trained tokens (sft) or pairs (reward, dpo)
  int64_t chosen_tokens = 0;  // trained tokens of chosen answers (dpo): what its sft term is divided by
};

/// Sums over micro-batches, whose meaning by index is the objective's own. Exact, so any order gives the same bits.
struct ObjectiveSums {
  int64_t num_tokens = 0;
  std::vector<ExactSum> sums;
  std::vector<int64_t> counts;
  std::vector<double> maxima;  // -infinity where nothing was seen
};

struct Metric {
  std::string name;  // TRL's
  double value = 0;
};

class Objective {
 public:
  virtual ~Objective() = default;

  virtual BatchWeight weigh(const MicroBatch& batch) const = 0;

  /// Of the right sizes, nothing seen.
  virtual ObjectiveSums empty_sums() const = 0;

  /// The rows of hidden_TD that apply() and statistics_of() look at, sorted, each once: the others may hold anything,
  /// and their gradient is zero.
  virtual std::vector<int64_t> read_rows(const MicroBatch& batch) const = 0;

  /// Adds loss and metrics of one micro-batch to `sums`. With `gradients` it returns the gradient of hidden_TD and
  /// writes those of the head (float32), of the micro-batch's part of the step's loss; without, an undefined tensor.
  /// hidden_TD: output of the last block. `weight`: of the global batch; not looked at without gradients.
  virtual at::Tensor apply(const at::Tensor& hidden_TD, const MicroBatch& batch, const HeadTensors& parameters,
                           const HeadTensors* gradients, const BatchWeight& weight, ObjectiveSums& sums) = 0;

  /// "loss" first. `sums` of at least one item, over all ranks.
  virtual std::vector<Metric> metrics(const ObjectiveSums& sums, bool is_evaluation) const = 0;

  /// True for a loss of a pair that depends on the other pairs of the global batch (aot). Then every micro-batch
  /// goes through the model once, forward only, before the loss of any is computed.
  virtual bool needs_global_statistics() const { return false; }
  /// What the losses of other micro-batches depend on in this one, as plain numbers.
  virtual std::vector<double> statistics_of(const at::Tensor& /*hidden_TD*/, const MicroBatch& /*batch*/,
                                            const HeadTensors& /*parameters*/) {
    return {};
  }
  /// Those of all micro-batches of the global batch, by MicroBatch::number.
  virtual void set_global_statistics(const std::vector<std::vector<double>>& /*statistics*/) {}
};

}  // namespace plumb
