// A decoder as a sequence of units (embedding, blocks, head), and the single loop over them. Training of sharded and of
// adapted models, decoding and the comparison of models differ only in where the parameters of a unit come from and
// where its gradient goes; these two interfaces express that difference.
// Source: the gather and release of FSDP and of ZeRO stage 3, arXiv:1910.02054.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "lib/model/model_config.hpp"
#include "lib/nn/block.hpp"
#include "lib/nn/rope.hpp"
#include "lib/nn/tensor_ops.hpp"
#include "lib/nn/vocabulary_adapter.hpp"

namespace plumb {

// T = tokens, D = hidden_size, V = vocabulary, or 1 for the score of a reward model.

/// Parameters of the head, or their gradients; gradients of frozen parameters are undefined.
struct HeadTensors {
  at::Tensor norm_D;
  at::Tensor head_VD;
  at::Tensor norm_bias_D = {};  // undefined if the norm has none
  VocabularyAdapter adapter = {};
  bool adds = false;  // gradients of norm and head are added to; only if a single product gives the head's
};

/// Source of the parameters. Each unit is acquired, used and released before the next one, in the order embedding,
/// blocks from first to last, head.
class ModelUnits {
 public:
  explicit ModelUnits(const ModelConfig& config) : config_(config), rope_(config) {}
  virtual ~ModelUnits() = default;

  const ModelConfig& config() const { return config_; }
  ModelRope& rope() { return rope_; }

  virtual at::Tensor acquire_embedding() = 0;  // [V, D]
  /// The adapter of the embedding, valid from acquire_embedding() to the end of the pass.
  virtual VocabularyAdapter embedding_adapter() { return {}; }
  virtual BlockParameters acquire_block(int64_t layer) = 0;
  virtual HeadTensors acquire_head() = 0;
  /// Ends the use of the unit acquired last, whose tensors become invalid.
  virtual void release() = 0;

 private:
  ModelConfig config_;
  ModelRope rope_;
};

/// Runs embedding and blocks: looks up the embeddings of token_ids, scaled where the family does so, then computes
/// x = block(layer, parameters, x) for each layer. Returns the output of the last block, [T, D].
template <class Block>
at::Tensor walk_blocks(ModelUnits& units, std::span<const int64_t> token_ids, Block block) {
  at::Tensor x_TD = take_rows(units.acquire_embedding(), token_ids);
  if (const VocabularyAdapter adapter = units.embedding_adapter(); !adapter.is_empty())
    adapt_lookup(adapter, token_ids, x_TD);
  if (const double scale = units.config().embedding_multiplier; scale != 1) x_TD.mul_(scale);
  units.release();
  for (int64_t layer = 0; layer < units.config().num_layers; ++layer) {
    x_TD = block(layer, units.acquire_block(layer), x_TD);
    units.release();
  }
  return x_TD;
}

/// Describes one pass of a micro-batch through the units.
struct Pass {
  bool is_training = false;
  int64_t accumulation = 0;  // training: index of the micro-batch within the step on this rank
  int64_t batch_number = 0;  // MicroBatch::number
  bool has_dropout = false;  // of the adapters' inputs

  static Pass evaluation() { return {}; }
  static Pass training(int64_t accumulation) {
    return {.is_training = true, .accumulation = accumulation, .has_dropout = true};
  }
  /// Forward only, with the activations of a training pass.
  static Pass rehearsal() { return {.has_dropout = true}; }
};

/// Source of the parameters of a training pass, and destination of its gradients. After the head, blocks are acquired
/// again from the last down to lowest_trained_layer(). The gradients of a unit are written while it is acquired and are
/// complete when it is released. All ranks call the same functions in the same order.
class TrainedUnits : public ModelUnits {
 public:
  using ModelUnits::ModelUnits;

  /// Collective: begins a pass; the one before must have ended.
  virtual void begin_pass(const Pass& pass) = 0;
  /// Collective: ends the pass. After a training pass the gradients have been summed over ranks and added to those of
  /// the step.
  virtual void end_pass() = 0;

  // dtype and device of the activations.
  virtual at::ScalarType dtype() const = 0;
  virtual at::Device device() const { return at::kCPU; }

  /// Dropout of the adapters' inputs in the current pass.
  virtual Dropout dropout() const { return {}; }
  /// The backward pass stops after this block; num_layers means that it enters no block.
  virtual int64_t lowest_trained_layer() const { return 0; }

  /// Gradients of the head, float32, to be overwritten unless they say otherwise. num_tokens: of the micro-batch.
  virtual HeadTensors head_gradients(int64_t num_tokens) = 0;
  virtual BlockGradients block_gradients(int64_t layer) = 0;
  /// Gradient of the embedding, float32 [V, D], to be added to in the rows of these tokens, which alone are defined;
  /// undefined if frozen.
  virtual at::Tensor embedding_gradient(std::span<const int64_t> token_ids) = 0;
  /// The same of embedding_adapter().
  virtual VocabularyAdapter embedding_adapter_gradients() { return {}; }
  /// Collective: the gradients requested last are complete; starts their sum over ranks.
  virtual void reduce() = 0;
};

}  // namespace plumb
