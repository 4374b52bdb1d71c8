// A frozen base with adapters that are trained: LoRA, and QLoRA where the base is in NF4. The adapters of all blocks
// are one unit, sharded over the ranks like any other: gathered once per micro-batch, its gradient, one flat float32
// buffer, reduce-scattered once. The base has no gradient, no moments and no float32 copy, and backward ends at the
// lowest adapter.
// Source: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lib/model/lora.hpp"
#include "lib/nn/block.hpp"
#include "partition/exchange.hpp"
#include "partition/frozen_base.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

class AdaptedModel : public TrainableModel {
 public:
  /// Collective. Everything is zero until both loads. Without training, an adapter may be empty. base: of
  /// frozen_units(config, adapter, ...).
  AdaptedModel(const ModelConfig& config, const Adapter& adapter, std::vector<FrozenUnit> base,
               const Communicator& comm, const EngineOptions& options, uint64_t dropout_seed);

  /// Local, and to be followed by a barrier.
  void load_base(const FrozenSource& source) { base_.load(source); }
  /// Local: fills this rank's shard of the adapter; the range may reach into the padding, which must come back zero.
  void load_adapter(const std::function<void(ElementRange range, std::span<float> out)>& fill);

  /// Local: dropout of the adapters' inputs from now on; at first as the adapter has it.
  void set_dropout(double rate) { adapter_.dropout = rate; }

  void begin_pass(const Pass& pass) override;
  void end_pass() override;
  at::Tensor acquire_embedding() override;
  BlockParameters acquire_block(int64_t layer) override;
  HeadTensors acquire_head() override;
  void release() override { base_.release(); }
  Dropout dropout() const override;
  int64_t lowest_trained_layer() const override { return lowest_layer_; }
  HeadTensors head_gradients() override;
  BlockGradients block_gradients(int64_t layer) override;
  at::Tensor embedding_gradient() override;
  void reduce() override {}  // one gradient for all blocks: end_pass() reduces it
  void on_parameters_changed(int64_t num_steps_done) override { num_updates_ = num_steps_done; }

  /// The adapter.
  const ShardLayout& unit() const { return units().front(); }
  std::span<const float> parameter_shard() const { return TrainableModel::parameter_shard(0); }
  std::span<const float> gradient_shard() const { return TrainableModel::gradient_shard(0); }
  Exchange& exchange() { return *exchange_; }
  int64_t base_bytes() const { return base_.num_bytes(); }

 private:
  at::Tensor acquire();
  /// The parameter of this kind that the adapter holds whole, in its flat buffer or in that of its gradient.
  at::Tensor whole(ParameterKind kind, const at::Tensor& flat) const;
  /// The matrix of the head or score that the adapter holds whole; undefined: none.
  at::Tensor whole_head(const at::Tensor& flat) const;
  bool trains_embedding() const;

  Adapter adapter_;
  uint64_t dropout_seed_;
  int64_t num_updates_ = 0;
  int64_t lowest_layer_;  // backward goes down to this block; num_layers: into none
  FrozenBase base_;
  std::unique_ptr<Exchange> exchange_;                              // of the adapter
  std::vector<PerProduct<std::vector<at::Tensor>>> squared_norms_;  // DoRA: of the base, by layer
  // The pass under way.
  Pass pass_;
  int next_operation_ = 0;   // of the base
  at::Tensor adapter_flat_;  // gathered
  at::Tensor gradient_flat_;
};

}  // namespace plumb
