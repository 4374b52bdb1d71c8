// A frozen base with adapters that are trained: LoRA, and QLoRA where the base is in NF4. The adapters of all blocks
// are one unit, sharded over the ranks like any other: gathered once per micro-batch, its gradient, one flat float32
// buffer, reduce-scattered once. The base has no gradient, no moments and no float32 copy, and backward ends at the
// lowest adapter.
// Source: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "lib/model/lora.hpp"
#include "lib/nn/block.hpp"
#include "lib/optim/adamw_state.hpp"
#include "partition/frozen_base.hpp"
#include "partition/trainable_model.hpp"
#include "partition/unit_exchange.hpp"

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

  /// Local: dropout of the adapters' inputs from now on, as the adapter has it at first.
  void set_dropout(double rate) { adapter_.dropout = rate; }

  void accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows,
                  const HeadPass& head_pass) override;
  void evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass) override;
  double gradient_norm() const override;
  void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) override;
  const ModelConfig& config() const override { return config_; }
  std::vector<TrainedShard> trained_shards() override { return {{&layouts_.front(), parameters_, &moments_}}; }
  void on_restore(int64_t num_steps_done) override { num_updates_ = num_steps_done; }

  const ShardLayout& unit() const { return layouts_.front(); }
  std::span<const float> parameter_shard() const { return parameters_; }
  std::span<const float> gradient_shard() const { return gradients_; }
  UnitExchange& exchange() { return exchange_; }
  int64_t base_bytes() const { return base_.num_bytes(); }

 private:
  BlockParameters block_parameters(int unit, const at::Tensor& bytes, const at::Tensor& adapter_flat);
  at::Tensor run_forward(const BlockContext& context, const std::vector<int64_t>& token_ids,
                         const at::Tensor& adapter_flat, std::vector<at::Tensor>* inputs,
                         std::vector<BlockActivations>* kept);
  HeadTensors head_parameters(const at::Tensor& bytes, const at::Tensor& adapter_flat) const;
  /// The parameter of this kind that the adapter holds whole, in its flat buffer or in that of its gradient.
  at::Tensor whole(ParameterKind kind, const at::Tensor& flat) const;
  bool trains_embedding() const;

  ModelConfig config_;
  Adapter adapter_;
  const Communicator& comm_;
  EngineOptions options_;
  uint64_t dropout_seed_;
  int64_t num_updates_ = 0;
  int64_t lowest_layer_;              // backward goes down to this block; num_layers: into none
  std::vector<ShardLayout> layouts_;  // of the adapter alone
  std::vector<at::Tensor> memory_;    // owns what the spans view
  std::span<float> parameters_, gradients_;
  std::vector<float*> levels_;  // of open subtrees; gradients_ is the first
  AdamWState moments_;
  FrozenBase base_;
  UnitExchange exchange_;
  std::vector<PerProduct<std::vector<at::Tensor>>> squared_norms_;  // DoRA: of the base, by layer
};

}  // namespace plumb
