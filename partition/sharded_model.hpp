// A decoder of which each rank holds 1/N of parameters, gradients and moments (ZeRO-3). A unit is gathered while the
// one before it computes and released after use, and its gradient is reduce-scattered while the next one computes.
// Source: ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "partition/exchange.hpp"
#include "partition/placement.hpp"
#include "partition/trainable_model.hpp"

namespace plumb {

class ShardedModel : public TrainableModel {
 public:
  /// Collective: parameters are zero until load().
  ShardedModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options,
               const Placement& placement = {});

  /// Local: calls fill(unit, range, out) once per unit with this rank's range. Ranges may include padding, which must
  /// be set to zero.
  void load(const std::function<void(int unit, ElementRange range, std::span<float> out)>& fill);

  /// Collective: calls use(unit, flat) for the units in forward order, a shared head again at the end. flat: the whole
  /// unit in the compute dtype, valid during the call.
  void gather_units(const std::function<void(int unit, const at::Tensor& flat)>& use);

  void begin_pass(const Pass& pass) override;
  void end_pass() override;
  at::Tensor acquire_embedding() override;
  BlockParameters acquire_block(int64_t layer) override;
  HeadTensors acquire_head() override;
  void release() override { exchange_->release_gather(); }
  HeadTensors head_gradients(int64_t num_tokens) override;
  BlockGradients block_gradients(int64_t layer) override;
  at::Tensor embedding_gradient(std::span<const int64_t> token_ids) override;
  void reduce() override;
  void on_parameters_changed(int64_t) override { exchange_->forget_converted(); }

  Exchange& exchange() { return *exchange_; }

 private:
  void prefetch();
  at::Tensor acquire();
  struct Destination {
    at::Tensor flat;
    bool adds;
  };
  /// Where the gradient of a reduce is written. may_add: it is a single product, which is rounded once.
  Destination destination(int reduce, bool may_add);
  int unit_of_block(int64_t layer) const { return static_cast<int>(layer) + 1; }
  const UnitLayout& head_unit() const { return (config().shares_head() ? units().front() : units().back()).unit(); }

  std::unique_ptr<Exchange> exchange_;
  // State of the current pass; next_gather_ and next_reduce_ are indices into the exchange's plan.
  Pass pass_;
  int next_gather_ = 0;
  int next_reduce_ = 0;
  // If head and embedding share a matrix, their common gradient is complete only after the embedding's backward pass.
  at::Tensor tied_gradient_;
  bool head_waits_for_embedding_ = false;
};

/// The layouts of all units of the model, in forward order.
std::vector<ShardLayout> shard_layouts(const ModelConfig& config, int num_ranks);

}  // namespace plumb
