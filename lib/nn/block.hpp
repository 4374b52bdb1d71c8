// One decoder block as a pair of pure functions of (input, parameters): forward saves the activations that backward
// needs in a value, and backward writes the parameter gradients into the given tensors, which are views of the unit's
// flat gradient buffer. Families differ in a few switches of ModelConfig (which norms exist, what scales a branch), so
// that one block serves all. This code does not know that parameters are sharded. There is no autograd graph, so
// gradients need no copy and no memory of their own. The reference, which uses LibTorch's autograd, is in
// block_reference.hpp; a test compares both. Source: the modeling files of transformers.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "lib/model/model_config.hpp"
#include "lib/model/parameters.hpp"
#include "lib/nn/attention.hpp"
#include "lib/nn/experts.hpp"
#include "lib/nn/linear.hpp"
#include "lib/nn/rope.hpp"

namespace plumb {

// T = tokens, D = hidden_size, H = query heads, G = key/value heads, K = head_dim, F = intermediate_size.

/// The norms of a block, in order. A family has two to four of them (NormPlacement).
enum class BlockNorm { kBeforeAttention, kAfterAttention, kBeforeFeedForward, kAfterFeedForward };
inline constexpr size_t kNumBlockNorms = 4;
/// One value per norm.
template <class T>
struct PerNorm : std::array<T, kNumBlockNorms> {
  using Base = std::array<T, kNumBlockNorms>;
  T& operator[](BlockNorm norm) { return Base::operator[](static_cast<size_t>(norm)); }
  const T& operator[](BlockNorm norm) const { return Base::operator[](static_cast<size_t>(norm)); }
};

struct NormTensors {
  at::Tensor weight_D, bias_D;
};

/// Views into a unit's flat buffer of parameters or of gradients. Tensors that a model family does not have are
/// undefined.
struct BlockTensors {
  PerNorm<NormTensors> norms;
  at::Tensor qkv_QD;  // Q = (H + 2 G) K
  at::Tensor qkv_bias_Q;
  at::Tensor q_norm_K;  // or H K: see QkNorm
  at::Tensor k_norm_K;  // or G K
  at::Tensor o_DO;      // O = H K
  at::Tensor o_bias_D;
  at::Tensor sinks_H;
  at::Tensor gate_up_ED;  // E = 2 F, gate first; or F, without a gate
  at::Tensor gate_up_bias_E;
  at::Tensor down_DF;
  at::Tensor down_bias_D;
  ExpertTensors experts;  // of a mixture of experts, which has no gate_up and down
};

/// The views of a block's unit. flat: one-dimensional, at least unit.num_elements long; the views share its memory.
BlockTensors block_tensors(const UnitLayout& unit, const at::Tensor& flat);

/// The parameters of a block in the form that computation uses: norms, and four products whose matrices may be
/// quantized or adapted.
struct BlockParameters {
  PerNorm<NormTensors> norms;
  at::Tensor q_norm_K, k_norm_K;
  at::Tensor sinks_H;  // float32
  PerProduct<Linear> linear;
  std::optional<ExpertParameters> experts;  // in place of kGateUp and kDown

  /// Implicit conversion: plain matrices without adapters.
  BlockParameters(const BlockTensors& tensors);
  const Linear& operator[](Product product) const { return linear[product]; }
  /// The matrices of a product, for a parameter of an expert of its own.
  Linear& linear_of(Product product, int64_t expert = -1);
};

/// Destinations of a block's gradients.
struct BlockGradients {
  bool has_base = true;  // false: the base is frozen and its gradients are not computed
  BlockTensors base;
  bool adds_base = false;  // true: adds to the base's gradients instead of overwriting them
  PerProduct<LoraGroup> lora;
  std::vector<ExpertLora> expert_lora;  // empty: experts are not adapted
  bool needs_input = true;              // false: nothing below this block is trained

  /// Implicit conversion: all gradients of the base.
  BlockGradients(const BlockTensors& tensors, bool adds = false) : base(tensors), adds_base(adds) {}
  /// Gradients of the adapters only.
  BlockGradients(PerProduct<LoraGroup> adapters, std::vector<ExpertLora> of_experts, bool needs_input_gradient)
      : has_base(false),
        lora(std::move(adapters)),
        expert_lora(std::move(of_experts)),
        needs_input(needs_input_gradient) {}
};

/// Inputs common to all blocks of a micro-batch.
struct BlockContext {
  const ModelConfig& config;
  Documents documents;
  ModelRope::Rotations rotations;
  Dropout dropout = {};  // of the adapters' inputs; its stream is that of the micro-batch
  /// The rows of the last block's output that the head reads, sorted; undefined means all. After attention the last
  /// block computes only these. Its other output rows are zero, and their gradient is ignored.
  at::Tensor read_rows;
  /// The first rows are tokens; the others are padding, which no router sends to an expert.
  int64_t num_tokens;
  std::vector<double> router_gradient_E = {};  // router_loss_gradient(), for the backward pass; empty: none

  /// documents: those of a MicroBatch, whose vectors must outlive this object. rope: the tables of the model, extended
  /// to the positions of these documents.
  BlockContext(const ModelConfig& model_config, ModelRope& rope, const Documents& batch_documents,
               at::Tensor rows_read = {});
};

/// sinks_H: undefined if the family has none; must outlive the shape.
AttentionShape attention_shape(const ModelConfig& config, int64_t layer, const at::Tensor& sinks_H);
ExpertConfig expert_config(const MixtureConfig& mixture);
HeadNorms head_norms(const ModelConfig& config, const BlockParameters& parameters);

/// Saved activations of one block. R = rows after attention: T or, in the last block, the rows that are read and
/// padding up to TensorOps::round_up_rows(). What a family does not need is undefined.
struct BlockActivations {
  at::Tensor input_TD;
  PerNorm<at::Tensor> norm_stats;
  at::Tensor qkv_before_norm_TQ;
  at::Tensor head_rstd;  // of queries and keys
  at::Tensor qkv_TQ;     // after rotation
  at::Tensor attended_RO;
  AttentionActivations attention;
  at::Tensor attention_out_RD;  // before the norm after attention
  at::Tensor middle_RD;         // the residual stream after attention
  at::Tensor gate_up_RE;
  at::Tensor feed_forward_out_RD;  // before the norm after the feed-forward network
  ExpertActivations experts;
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
