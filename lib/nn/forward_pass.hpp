// One micro-batch through all units of a model: forward, then the loss, which the caller computes from hidden_TD() and
// head(), then backward. The only code that knows in which order parameters are needed and gradients become complete.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/model/batch.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/model_units.hpp"
#include "lib/nn/padded_rows.hpp"
#include "lib/nn/router_loss.hpp"

namespace plumb {

/// The rows of hidden_TD that the loss reads, sorted and unique (Objective::read_rows); nullopt means all. After
/// attention the last block skips the other rows, whose output is zero.
using ReadRows = std::optional<std::vector<int64_t>>;

class ForwardPass {
 public:
  /// Collective: runs embedding and blocks, and acquires the head. has_gradient_checkpointing: backward recomputes the
  /// activations of each block instead of saving them. units must outlive this object.
  ForwardPass(TrainedUnits& units, const MicroBatch& batch, const ReadRows& read_rows, Pass pass,
              bool has_gradient_checkpointing);
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  /// Output of the last block, [T, D], until backward() or finish().
  const at::Tensor& hidden_TD() const { return hidden_TD_; }
  const HeadTensors& head() const { return head_; }
  /// float32, to be overwritten by the loss; null in an evaluation.
  const HeadTensors* head_gradients() const { return pass_.is_training ? &head_gradients_ : nullptr; }

  /// How the tokens were divided among the experts of each mixture, from the first layer on; padding does not count.
  const std::vector<RouterLoad>& router_loads() const { return router_loads_; }

  /// Collective, once: ends a training pass. gradient_TD: the gradient of hidden_TD(). router_gradient_E: of the
  /// routers' loss (router_loss_gradient), or empty.
  void backward(at::Tensor gradient_TD, std::span<const double> router_gradient_E = {});
  /// Collective, once: ends an evaluation.
  void finish();

 private:
  at::Tensor backward_block(int64_t layer, const at::Tensor& gradient_TD);
  void backward_embedding(at::Tensor gradient_TD);

  TrainedUnits& units_;
  Pass pass_;
  int64_t num_tokens_;
  PaddedRows rows_;
  BlockContext context_;
  bool has_gradient_checkpointing_;
  // For blocks from lowest_trained_layer(), which are the ones with a backward pass.
  std::vector<at::Tensor> inputs_;             // with gradient checkpointing
  std::vector<BlockActivations> activations_;  // without
  std::vector<RouterLoad> router_loads_;
  at::Tensor hidden_TD_;
  HeadTensors head_, head_gradients_;
};

}  // namespace plumb
