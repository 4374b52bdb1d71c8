// A decoder of which each rank holds 1/N of parameters, gradients and moments (ZeRO-3), and the schedule that drives it
// by hand: gather a unit while the one before computes, release it, and reduce-scatter its gradient while the next
// computes. The blocks are pure functions and know nothing of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/batch.hpp"
#include "lib/model/block.hpp"
#include "lib/objective/token_loss.hpp"
#include "lib/optim/adamw.hpp"
#include "partition/unit_exchange.hpp"

namespace plumb {

struct EngineOptions {
  at::ScalarType dtype = at::kFloat;  // of slots, activations and the wire
  bool has_gradient_checkpointing = true;
  int64_t accumulation_steps = 1;
  Reduction reduction = Reduction::kCanonical;
};

/// Turns the last block's output into a loss: returns the gradient of hidden_TD and writes those of the head (float32),
/// or returns an undefined tensor, and writes none, when `gradients` is null.
using HeadPass =
    std::function<at::Tensor(const at::Tensor& hidden_TD, const HeadTensors& parameters, const HeadTensors* gradients)>;

/// The rows of hidden_TD that a HeadPass reads, sorted, each once (Objective::read_rows); none given: all. The last
/// block does not compute the others behind attention: they are zeros.
using ReadRows = std::optional<std::vector<int64_t>>;

class ShardedModel {
 public:
  /// Collective. Parameters are zero until load().
  ShardedModel(const ModelConfig& config, const Communicator& comm, const EngineOptions& options);

  /// Local: fills this rank's shards. fill(unit, range of the unit, out) is called once per unit; ranges may reach into
  /// the padding, which must come back zero.
  void load(const std::function<void(int unit, ElementRange range, std::span<float> out)>& fill);

  /// Collective: one micro-batch forward and backward. `accumulation` counts from 0 within the step; after the last the
  /// gradient shards are complete.
  void accumulate(const MicroBatch& batch, int64_t accumulation, const ReadRows& read_rows, const HeadPass& head_pass);

  /// Collective: forward only, no gradients.
  void evaluate(const MicroBatch& batch, const ReadRows& read_rows, const HeadPass& head_pass);

  /// Collective: Euclidean norm of the whole gradient, the same bits on any number of ranks.
  double gradient_norm() const;

  /// Local: AdamW on this rank's shards. step counts from 1.
  void update(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale);

  const ModelConfig& config() const { return config_; }
  const std::vector<ShardLayout>& units() const { return units_; }
  std::span<float> parameter_shard(int unit) { return shards_[static_cast<size_t>(unit)].parameters; }
  std::span<const float> gradient_shard(int unit) const { return shards_[static_cast<size_t>(unit)].gradients; }
  UnitExchange& exchange() { return exchange_; }

 private:
  struct UnitShard {
    std::span<float> parameters, moments1, moments2;
    std::span<float> gradients;  // level 0 of the open subtrees
    std::vector<float*> levels;
  };
  void prefetch(int operation);
  at::Tensor run_forward(const BlockContext& context, const std::vector<int64_t>& token_ids,
                         std::vector<at::Tensor>* inputs, std::vector<BlockKept>* kept);
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
