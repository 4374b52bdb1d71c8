// One decoder block as a pure pair of functions of (input, parameters): forward keeps what backward needs in a value,
// and backward writes parameter gradients where it is told, which is the unit's flat gradient buffer. Nothing here
// knows that parameters are sharded; no autograd graph exists, so gradients need no copy and no memory of their own.
// The reference with LibTorch's autograd is in block_reference.hpp; a test holds the two together.
// Source: transformers modeling_llama.py, modeling_mistral.py, modeling_qwen2.py, modeling_qwen3.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/linear.hpp"
#include "lib/nn/rope.hpp"

namespace plumb {

// T = tokens, D = hidden_size, H = query heads, G = key/value heads, K = head_dim, F = intermediate_size.

/// Views into a unit's flat buffer: of the parameters, or of their gradients. Undefined tensors where a family has
/// none.
struct BlockTensors {
  at::Tensor input_norm_D;
  at::Tensor qkv_QD;  // Q = (H + 2 G) K
  at::Tensor qkv_bias_Q;
  at::Tensor q_norm_K;
  at::Tensor k_norm_K;
  at::Tensor o_DO;  // O = H K
  at::Tensor o_bias_D;
  at::Tensor post_norm_D;
  at::Tensor gate_up_ED;  // E = 2 F, gate first
  at::Tensor down_DF;
};

/// flat: one dimension, at least unit.num_elements long. The views share its memory.
BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat);

/// The parameters of a block as they are used: norms, and four products whose matrices may be quantized or adapted.
struct BlockParameters {
  at::Tensor input_norm_D, q_norm_K, k_norm_K, post_norm_D;
  PerProduct<Linear> linear;

  /// Implicit: plain matrices without adapters.
  BlockParameters(const BlockTensors& tensors);
  const Linear& operator[](Product product) const { return linear[product]; }
};

/// Where gradients go.
struct BlockGradients {
  bool has_base = true;  // false: the base is frozen, and none of its gradients is computed
  BlockTensors base;
  bool adds_base = false;  // to what is there, instead of writing it
  PerProduct<LoraGroup> lora;
  bool needs_input = true;  // false: nothing below this block is trained

  /// Implicit: all of the base.
  BlockGradients(const BlockTensors& tensors, bool adds = false) : base(tensors), adds_base(adds) {}
  /// Of adapters alone.
  BlockGradients(PerProduct<LoraGroup> adapters, bool needs_input_gradient)
      : has_base(false), lora(std::move(adapters)), needs_input(needs_input_gradient) {}
};

/// What all blocks of a micro-batch share.
struct BlockContext {
  const ModelConfig& config;
  Documents documents;
  at::Tensor cos, sin, positions;  // of Rotation
  Dropout dropout = {};            // of adapters; its stream is that of the micro-batch
  /// The rows of the last block's output that the head reads, sorted; undefined: all. After attention the last block
  /// computes no others: they come out as zeros, and no gradient is taken from them.
  at::Tensor read_rows;

  /// documents: of MicroBatch, whose vectors must outlive this. rope: of the model; covers its positions on return.
  BlockContext(const ModelConfig& model_config, RopeTable& rope, const Documents& batch_documents,
               at::Tensor rows_read = {});

  Rotation rotation() const { return {cos, sin, positions}; }
};

/// Activations of one block, from forward to backward. R = rows after attention: T, or those that are read and
/// rows of zeros up to TensorOps::round_up_rows().
struct BlockActivations {
  at::Tensor input_TD;
  at::Tensor input_rstd_T;
  at::Tensor qkv_before_norm_TQ;  // Qwen3 only
  at::Tensor head_rstd;           // [T, H + G], Qwen3 only
  at::Tensor qkv_TQ;              // rotated
  at::Tensor attended_RO;
  AttentionActivations attention;
  at::Tensor middle_RD;
  at::Tensor middle_rstd_R;
  at::Tensor gate_up_RE;
  PerProduct<LinearActivations> linear;
};

/// Returns the block's output [T, D] in the dtype of the input; see BlockContext::read_rows for the last one.
at::Tensor block_forward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                         const at::Tensor& input_TD, BlockActivations& kept);

/// The same, but stops once everything backward needs is kept: the recomputation of gradient checkpointing.
void block_recompute(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                     const at::Tensor& input_TD, BlockActivations& kept);

/// Writes the parameter gradients into `gradients` (those of the base in the dtype of the activations, or added in
/// place) and returns that of the input, [T, D], where it is needed. Consumes `kept`.
at::Tensor block_backward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                          BlockActivations& kept, const at::Tensor& dout_TD, const BlockGradients& gradients);

}  // namespace plumb
