// Causal self-attention over packed documents: LibTorch's flash attention for the CPU, called per document on views, so
// that no [tokens, tokens] mask exists and no document attends to another. If a document shares its prefix with one
// before, prefix and rest are concatenated for the call. Query heads may share keys and values (GQA).
// Bfloat16 rows, capped scores and sinks are computed in tiles (tiled_attention.hpp): the operator's bfloat16 products
// convert internally, and it does not know the others. Without PairKernels bfloat16 runs compute attention in float32.
// CUDA tensors: attention_cuda.hpp.
// Source: FlashAttention-2, arXiv:2307.08691; the operator is at::_scaled_dot_product_flash_attention_for_cpu.
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace plumb {

/// The rows of each document, as in MicroBatch.
struct Documents {
  std::span<const int64_t> begin;          // first row of each document, then T
  std::span<const int64_t> prefix_length;  // tokens shared with the nearest whole document before
};

// T = tokens of all documents, H = query heads, G = key/value heads, K = head_dim.

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t sliding_window = 0;      // 0: none
  double score_scale = 0;          // of q . k; 0: 1 / sqrt(head_dim)
  double score_cap = 0;            // c tanh(score / c) before the softmax; 0: none
  const float* sinks_H = nullptr;  // on qkv's device: one more logit per query head, without a value; null: none

  bool is_tiled() const { return score_cap > 0 || sinks_H != nullptr; }
  double scale() const { return score_scale > 0 ? score_scale : 1.0 / std::sqrt(static_cast<double>(head_dim)); }
};

/// Saved for the backward pass: output and log-sum-exp of each call of the operator. On CUDA the output is `out`
/// itself, which must not change.
struct AttentionActivations {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> log_sum_exps;
};

/// qkv: [T, (H + 2G) K], after rotation. Writes `out`, [T, H K], and appends to `saved`.
void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                       const at::Tensor& out, AttentionActivations& saved);

/// Writes dqkv, [T, (H + 2G) K], and adds to the gradient of the sinks, float32 [H], which may be undefined without
/// sinks. qkv and saved: those of attention_forward(). dout: [T, H K].
void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                        const AttentionActivations& saved, const at::Tensor& dout, const at::Tensor& dqkv,
                        const at::Tensor& dsinks_H = {});

}  // namespace plumb
