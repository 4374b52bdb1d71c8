// A decoder of which something is trained: all of it (ShardedModel), or adapters beside a frozen base (AdaptedModel).
// Forward and backward are those of lib/nn/forward_pass; here is what both kinds of model share beyond them: the shards
// that this rank owns of the trained units, their gradient norm, and their update.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "lib/model/batch.hpp"
#include "lib/nn/forward_pass.hpp"
#include "lib/nn/model_units.hpp"
#include "lib/optim/adamw.hpp"
#include "partition/canonical_sum.hpp"
#include "partition/communicator.hpp"
#include "partition/shard_layout.hpp"
#include "partition/shard_memory.hpp"
#include "partition/trained_shard.hpp"

namespace plumb {

struct EngineOptions {
  at::ScalarType dtype = at::kFloat;  // of gathered parameters, activations and the wire
  bool has_gradient_checkpointing = true;
  int64_t accumulation_steps = 1;
  Reduction reduction = Reduction::kCanonical;
  bool has_8bit_moments = false;  // of units that are not small: see lib/optim/adamw_state.hpp
  bool is_trained = true;         // false: only evaluated, without gradients and moments
};

class TrainableModel : public TrainedUnits {
 public:
  /// Collective: embedding, blocks, and the head's unit acquired; the pass ends with backward() or finish().
  ForwardPass forward(const MicroBatch& batch, const ReadRows& read_rows, const Pass& pass) {
    return ForwardPass(*this, batch, read_rows, pass, options_.has_gradient_checkpointing);
  }

  /// Collective: Euclidean norm of the gradient of a whole step, the same bits on any number of ranks.
  double gradient_norm() const;
  /// Local: AdamW on this rank's shards. step counts from 1.
  void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale);

  /// What this rank owns of each trained unit: all that a step changes. Valid as long as the model.
  std::vector<TrainedShard> trained_shards();
  /// Local: to be called when trained_shards() have been filled with what they were after this many steps.
  virtual void on_parameters_changed(int64_t num_steps_done) = 0;

  at::ScalarType dtype() const override { return options_.dtype; }
  /// Of the trained units, in forward order.
  const std::vector<ShardLayout>& units() const { return layouts_; }
  std::span<float> parameter_shard(int unit) const { return shards_[unit].parameters(); }
  std::span<const float> gradient_shard(int unit) const { return shards_[unit].gradients(); }

 protected:
  TrainableModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options,
                 std::vector<ShardLayout> trained_units);

  const Communicator& comm() const { return comm_; }
  const EngineOptions& options() const { return options_; }
  const ShardMemory& shard(int unit) const { return shards_[unit]; }

 private:
  const Communicator& comm_;
  EngineOptions options_;
  std::vector<ShardLayout> layouts_;
  std::vector<ShardMemory> shards_;
};

}  // namespace plumb
