// One decoder block as a pair of pure functions of (input, parameters): forward saves the activations that backward
// needs in a value, and backward writes the parameter gradients into the given tensors, which are views of the unit's
// flat gradient buffer. This code does not know that parameters are sharded. There is no autograd graph, so gradients
// need no copy and no memory of their own. The reference, which uses LibTorch's autograd, is in block_reference.hpp; a
// test compares both.
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

/// Views into a unit's flat buffer of parameters or of gradients. Tensors that a model family does not have are
/// undefined.
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

/// The views of a block's unit. flat: one-dimensional, at least unit.num_elements long; the views share its memory.
BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat);

/// The parameters of a block in the form that computation uses: norms, and four products whose matrices may be
/// quantized or adapted.
struct BlockParameters {
  at::Tensor input_norm_D, q_norm_K, k_norm_K, post_norm_D;
  PerProduct<Linear> linear;

  /// Implicit conversion: plain matrices without adapters.
  BlockParameters(const BlockTensors& tensors);
  const Linear& operator[](Product product) const { return linear[product]; }
};

/// Destinations of a block's gradients.
struct BlockGradients {
  bool has_base = true;  // false: the base is frozen and its gradients are not computed
  BlockTensors base;
  bool adds_base = false;  // true: adds to the base's gradients instead of overwriting them
  PerProduct<LoraGroup> lora;
  bool needs_input = true;  // false: nothing below this block is trained

  /// Implicit conversion: all gradients of the base.
  BlockGradients(const BlockTensors& tensors, bool adds = false) : base(tensors), adds_base(adds) {}
  /// Gradients of the adapters only.
  BlockGradients(PerProduct<LoraGroup> adapters, bool needs_input_gradient)
      : has_base(false), lora(std::move(adapters)), needs_input(needs_input_gradient) {}
};

/// Inputs common to all blocks of a micro-batch.
struct BlockContext {
  const ModelConfig& config;
  Documents documents;
  at::Tensor cos, sin, positions;  // see Rotation
  Dropout dropout = {};            // of the adapters' inputs; its stream is that of the micro-batch
  /// The rows of the last block's output that the head reads, sorted; undefined means all. After attention the last
  /// block computes only these. Its other output rows are zero, and their gradient is ignored.
  at::Tensor read_rows;

  /// documents: those of a MicroBatch, whose vectors must outlive this object. rope: the table of the model, extended
  /// to the positions of these documents.
  BlockContext(const ModelConfig& model_config, RopeTable& rope, const Documents& batch_documents,
               at::Tensor rows_read = {});

  Rotation rotation() const { return {cos, sin, positions}; }
};

/// Saved activations of one block. R = rows after attention: T or, in the last block, the rows that are read and
/// padding up to TensorOps::round_up_rows().
struct BlockActivations {
  at::Tensor input_TD;
  at::Tensor input_rstd_T;
  at::Tensor qkv_before_norm_TQ;  // Qwen3 only
  at::Tensor head_rstd;           // [T, H + G], Qwen3 only
  at::Tensor qkv_TQ;              // after rotation
  at::Tensor attended_RO;
  AttentionActivations attention;
  at::Tensor middle_RD;
  at::Tensor middle_rstd_R;
  at::Tensor gate_up_RE;
  PerProduct<LinearActivations> linear;
};

/// Returns the block's output, [T, D], in the dtype of the input. See BlockContext::read_rows for the last block. Fills
/// `saved`.
at::Tensor block_forward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                         const at::Tensor& input_TD, BlockActivations& saved);

/// Recomputes the saved activations for gradient checkpointing: the forward pass up to the last one that backward
/// needs.
void block_recompute(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                     const at::Tensor& input_TD, BlockActivations& saved);

/// Writes the parameter gradients into `gradients` (those of the base in the dtype of the activations, or added in
/// place) and returns the gradient of the input, [T, D], undefined if not needed. Consumes `saved`.
at::Tensor block_backward(const BlockContext& context, int64_t layer, const BlockParameters& parameters,
                          BlockActivations& saved, const at::Tensor& dout_TD, const BlockGradients& gradients);

}  // namespace plumb
