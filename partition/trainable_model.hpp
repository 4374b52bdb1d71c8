// A decoder that is trained, in full (ShardedModel) or through adapters beside a frozen base (AdaptedModel). Forward
// and backward are in lib/nn/forward_pass; this class holds what both kinds of model share: the shards of the trained
// units that this rank owns, their gradient norm, and their update.
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
  at::ScalarType dtype = at::kFloat;  // gathered parameters, activations and bytes on the wire
  bool has_gradient_checkpointing = true;
  int64_t accumulation_steps = 1;
  Reduction reduction = Reduction::kCanonical;
  bool has_8bit_moments = false;       // except for small units: see lib/optim/adamw_state.hpp
  bool is_trained = true;              // false: evaluation only, without gradients and moments
  double router_loss_coefficient = 0;  // of the routers' loss of a mixture of experts, in training
};

class TrainableModel : public TrainedUnits {
 public:
  /// Collective: runs embedding and blocks, and acquires the head. The pass ends with backward() or finish().
  ForwardPass forward(const MicroBatch& batch, const ReadRows& read_rows, const Pass& pass) {
    // the routers' loss needs those of all tokens, in the last block too
    const bool reads_all = options_.router_loss_coefficient > 0 && pass.has_dropout;
    return ForwardPass(*this, batch, reads_all ? ReadRows() : read_rows, pass, options_.has_gradient_checkpointing);
  }
  double router_loss_coefficient() const { return options_.router_loss_coefficient; }

  /// Collective: Euclidean norm of the gradient of a complete step, with the same bits on any number of ranks.
  double gradient_norm() const;
  /// Local: applies AdamW to this rank's shards. step counts from 1. gradient_scale: factor for the gradients, from
  /// clipping.
  void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale);

  /// This rank's shards of all trained units, which is all that a step changes. Valid during the lifetime of the model.
  std::vector<TrainedShard> trained_shards();
  /// Local: must be called after trained_shards() have been overwritten with the values after num_steps_done steps.
  virtual void on_parameters_changed(int64_t num_steps_done) = 0;

  at::ScalarType dtype() const override { return options_.dtype; }
  /// Layouts of the trained units, in forward order.
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
