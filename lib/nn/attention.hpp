// Causal self-attention over packed documents: LibTorch's flash attention for the CPU, called per document on views, so
// that no mask of [tokens, tokens] exists and no document sees another. A document that shares its prefix with the one
// before is put together for its call. Heads may share keys (GQA).
// In bfloat16 runs too it computes in float32: the operator's bfloat16 products go through conversions of their own,
// which cost more than one of all rows does.
// Source: FlashAttention-2, arXiv:2307.08691; the operator is at::_scaled_dot_product_flash_attention_for_cpu.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace plumb {

/// Where documents lie among the rows, as in MicroBatch.
struct Documents {
  std::span<const int64_t> begin;          // ends with T
  std::span<const int64_t> prefix_length;  // tokens shared with the document before; empty: none
};

// T = tokens of all documents, H = query heads, G = key/value heads, K = head_dim.

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t sliding_window = 0;  // 0: none

  int64_t qkv_columns() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

/// What the backward pass needs: per call of the operator its output and log-sum-exp.
struct AttentionActivations {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> log_sum_exps;
};

/// qkv: [T, (H + 2G) K], rotated; out: [T, H K], written.
void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                       const at::Tensor& out, AttentionActivations& kept);

/// dqkv: [T, (H + 2G) K], written.
void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, const Documents& documents,
                        const AttentionActivations& kept, const at::Tensor& dout, const at::Tensor& dqkv);

}  // namespace plumb
