// A decoder of which each rank holds 1/N of parameters, gradients and moments (ZeRO-3), and the schedule that drives it
// by hand: gather a unit while the one before computes, release it, and reduce-scatter its gradient while the next
// computes. The blocks are pure functions and know nothing of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/nn/block.hpp"
#include "lib/optim/adamw_state.hpp"
#include "partition/trainable_model.hpp"
#include "partition/unit_exchange.hpp"

namespace plumb {

class ShardedModel : public TrainableModel {
 public:
  /// Collective. Parameters are zero until load().
  ShardedModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options);

  /// Local: fills this rank's shards. fill(unit, range of the unit, out) is called once per unit; ranges may reach into
  /// the padding, which must come back zero.
  void load(const std::function<void(int unit, ElementRange range, std::span<float> out)>& fill);

  void accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows,
                  const HeadPass& head_pass) override;
  void evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass) override;
  double gradient_norm() const override;
  void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) override;

  const ModelConfig& config() const override { return config_; }
  std::vector<TrainedShard> trained_shards() override;
  void on_restore(int64_t) override { exchange_.forget_converted(); }

  const std::vector<ShardLayout>& units() const { return units_; }
  std::span<float> parameter_shard(int unit) { return shards_[unit].parameters; }
  std::span<const float> gradient_shard(int unit) const { return shards_[unit].gradients; }
  UnitExchange& exchange() { return exchange_; }

 private:
  struct UnitShard {
    std::span<float> parameters;
    AdamWState moments;
    std::span<float> gradients;  // level 0 of the open subtrees
    std::vector<float*> levels;
  };
  void prefetch(int operation);
  at::Tensor run_forward(const BlockContext& context, const std::vector<int64_t>& token_ids,
                         std::vector<at::Tensor>* inputs, std::vector<BlockActivations>* kept);
  HeadTensors head_tensors(const at::Tensor& flat) const;
  at::Tensor gradient_target(int reduce);
  void finish_reduce(int reduce, int64_t accumulation);

  ModelConfig config_;
  const Communicator& comm_;
  EngineOptions options_;
  std::vector<ShardLayout> units_;
  std::vector<at::Tensor> memory_;  // owns what the spans of shards_ view
  std::vector<UnitShard> shards_;
  UnitExchange exchange_;
};

std::vector<ShardLayout> shard_layouts(const ModelConfig& config, int num_ranks);

}  // namespace plumb
