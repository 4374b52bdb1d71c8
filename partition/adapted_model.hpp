// A model whose adapters are trained beside a frozen base: LoRA, or QLoRA if the base is in NF4. The adapters of all
// blocks form one unit, sharded over the ranks like any other. It is gathered once per micro-batch, and its gradient,
// one flat float32 buffer, is reduce-scattered once. The base has no gradient, no moments and no float32 copy, and the
// backward pass stops at the lowest adapter.
// Source: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "lib/model/lora.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/resident_units.hpp"
#include "partition/exchange.hpp"
#include "partition/frozen_base.hpp"
#include "partition/node_memory.hpp"
#include "partition/placement.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

class AdaptedModel : public TrainableModel {
 public:
  /// Collective: all parameters are zero until load_base() and load_adapter(). base: frozen_units(config, adapter,
  /// ...). The adapter must have parameters if options.is_trained.
  AdaptedModel(const ModelConfig& config, const Adapter& adapter, std::vector<FrozenUnit> base,
               const Communicator& comm, const EngineOptions& options, uint64_t dropout_seed,
               const Placement& placement = {});

  /// Local: reads this rank's part of the base. A barrier must follow before the first pass.
  void load_base(const FrozenSource& source) { base_.load(source); }
  /// Local: calls fill once with this rank's range of the adapter. The range may include padding, which must be set to
  /// zero.
  void load_adapter(const std::function<void(ElementRange range, std::span<float> out)>& fill);

  /// Local: replaces the dropout rate of the adapters' inputs.
  void set_dropout(double rate) { adapter_.dropout = rate; }

  /// Local: whether passes that begin now have the adapter; without it the model is its base. False only for
  /// evaluation, and for an adapter without parameters that are trained in full.
  void use_adapter(bool is_used);

  /// Collective: the model as it is now, for passes that ranks make each by themselves, without dropout. Base and
  /// adapter are not merged; they exist once per node. Valid until the next call, and not longer than this model.
  ResidentUnits resident_units();

  void begin_pass(const Pass& pass) override;
  void end_pass() override;
  at::Tensor acquire_embedding() override;
  VocabularyAdapter embedding_adapter() override;
  BlockParameters acquire_block(int64_t layer) override;
  HeadTensors acquire_head() override;
  void release() override { base_.release(); }
  Dropout dropout() const override;
  int64_t lowest_trained_layer() const override { return lowest_layer_; }
  HeadTensors head_gradients(int64_t num_tokens) override;
  BlockGradients block_gradients(int64_t layer) override;
  at::Tensor embedding_gradient(std::span<const int64_t> token_ids) override;
  VocabularyAdapter embedding_adapter_gradients() override;
  void reduce() override {}  // one gradient for all blocks: end_pass() reduces it
  void on_parameters_changed(int64_t num_steps_done) override { num_updates_ = num_steps_done; }

  /// The unit that holds all adapters.
  const ShardLayout& unit() const { return units().front(); }
  std::span<const float> parameter_shard() const { return TrainableModel::parameter_shard(0); }
  std::span<const float> gradient_shard() const { return TrainableModel::gradient_shard(0); }
  Exchange& exchange() { return *exchange_; }
  int64_t base_bytes() const { return base_.num_bytes(); }

 private:
  at::Tensor acquire();
  /// Copies the adapter into the memory of each node.
  at::Tensor resident_adapter();
  at::Tensor embedding_of(const at::Tensor& bytes, const at::Tensor& flat) const;
  HeadTensors head_of(const at::Tensor& bytes, const at::Tensor& flat) const;
  /// Adds the adapters of a layer. has_row_scales: with those of DoRA.
  void adapt(int64_t layer, const at::Tensor& flat, bool has_row_scales, BlockParameters& parameters);
  /// The view of a parameter that is trained in full (modules_to_save), in the adapter's flat parameters or flat
  /// gradient; undefined if it is not.
  at::Tensor whole(ParameterKind kind, const at::Tensor& flat) const;
  /// The kind of the matrix that is the head: kEmbedding where they are one.
  ParameterKind head_kind() const;

  Adapter adapter_;
  bool is_adapter_used_ = true;
  uint64_t dropout_seed_;
  int64_t num_updates_ = 0;
  int64_t lowest_layer_;  // the backward pass stops after this block; num_layers: it enters no block
  FrozenBase base_;
  std::unique_ptr<Exchange> exchange_;                              // gathers and reduces the adapter
  std::vector<PerProduct<std::vector<at::Tensor>>> squared_norms_;  // DoRA: squared row norms of the base, by layer
  std::unique_ptr<NodeMemory> resident_adapter_;
  // State of the current pass.
  Pass pass_;
  int next_operation_ = 0;   // next gather of the base
  at::Tensor adapter_flat_;  // gathered
  at::Tensor gradient_flat_;
};

}  // namespace plumb
