// One micro-batch through all units of a model: forward, then the loss, which its caller computes from hidden_TD() and
// head(), then backward. This is the only place that knows the order in which parameters are needed and gradients
// become complete.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "lib/model/batch.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/model_units.hpp"
#include "lib/nn/padded_rows.hpp"

namespace plumb {

/// The rows of hidden_TD that the loss reads, sorted, each once (Objective::read_rows); none given: all. After
/// attention the last block does not compute the others: they are zeros.
using ReadRows = std::optional<std::vector<int64_t>>;

class ForwardPass {
 public:
  /// Collective: embedding and blocks, and the head's unit acquired. has_gradient_checkpointing: backward computes the
  /// activations of each block again instead of keeping them. units must outlive this object.
  ForwardPass(TrainedUnits& units, const MicroBatch& batch, const ReadRows& read_rows, Pass pass,
              bool has_gradient_checkpointing);
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  /// Output of the last block, [T, D].
  const at::Tensor& hidden_TD() const { return hidden_TD_; }
  const HeadTensors& head() const { return head_; }
  /// float32, to be written; null in an evaluation.
  const HeadTensors* head_gradients() const { return pass_.is_training ? &head_gradients_ : nullptr; }

  /// Collective, once: ends a training pass. gradient_TD: of hidden_TD().
  void backward(at::Tensor gradient_TD);
  /// Collective, once: ends an evaluation.
  void finish();

 private:
  at::Tensor backward_block(int64_t layer, const at::Tensor& gradient_TD);

  TrainedUnits& units_;
  Pass pass_;
  int64_t num_tokens_;
  PaddedRows rows_;
  BlockContext context_;
  bool has_gradient_checkpointing_;
  // Of the blocks from lowest_trained_layer() on: no backward pass goes below it.
  std::vector<at::Tensor> inputs_;             // with gradient checkpointing
  std::vector<BlockActivations> activations_;  // without
  at::Tensor hidden_TD_;
  HeadTensors head_, head_gradients_;
};

}  // namespace plumb
