// What Trainer::step drives: a decoder of which something is trained, all of it (ShardedModel) or adapters beside a
// frozen base (AdaptedModel).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <vector>

#include "lib/model/batch.hpp"
#include "lib/model/model_config.hpp"
#include "lib/objective/token_loss.hpp"
#include "lib/optim/adamw_state.hpp"
#include "partition/canonical_sum.hpp"
#include "partition/shard_layout.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

struct EngineOptions {
  at::ScalarType dtype = at::kFloat;  // of slots, activations and the wire
  bool has_gradient_checkpointing = true;
  int64_t accumulation_steps = 1;
  Reduction reduction = Reduction::kCanonical;
  bool has_8bit_moments = false;  // of units that are not small: see lib/optim/adamw_state.hpp
  bool is_trained = true;         // false: only evaluated, without gradients and moments
};

/// Of a rank's shard of a unit.
inline AdamWState new_moments(const ShardLayout& layout, const EngineOptions& options) {
  return {layout.shard_elements(), options.has_8bit_moments && has_8bit_moments(layout.unit().num_elements)};
}

/// Turns the last block's output into a loss: returns the gradient of hidden_TD and writes those of the head (float32;
/// undefined ones are frozen), or returns an undefined tensor, and writes none, when `gradients` is null.
using HeadPass =
    std::function<at::Tensor(const at::Tensor& hidden_TD, const HeadTensors& parameters, const HeadTensors* gradients)>;

/// The rows of hidden_TD that a HeadPass reads, sorted, each once (Objective::read_rows); none given: all. The last
/// block does not compute the others behind attention: they are zeros.
using ReadRows = std::optional<std::vector<int64_t>>;

class TrainableModel {
 public:
  virtual ~TrainableModel() = default;

  /// Collective: one micro-batch forward and backward. `accumulation` counts from 0 within the step; after the last the
  /// gradient shards are complete.
  virtual void accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows,
                          const HeadPass& head_pass) = 0;

  /// Collective: forward only, no gradients.
  virtual void evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass) = 0;

  /// Collective: Euclidean norm of the whole gradient, the same bits on any number of ranks.
  virtual double gradient_norm() const = 0;

  /// Local: AdamW on this rank's shards. step counts from 1.
  virtual void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) = 0;

  virtual const ModelConfig& config() const = 0;

  /// What this rank owns of each trained unit: all that a step changes. Valid as long as the model.
  virtual std::vector<TrainedShard> trained_shards() = 0;
  /// Local: to be called when trained_shards() have been filled with what they were after this many steps.
  virtual void on_restore(int64_t num_steps_done) = 0;
};

}  // namespace plumb
