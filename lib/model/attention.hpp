// Causal self-attention over packed documents: LibTorch's flash attention for the CPU, called per document on views, so
// that no mask of [tokens, tokens] exists and no document sees another. Heads may share keys (GQA).
// Source: FlashAttention-2, arXiv:2307.08691; the operator is at::_scaled_dot_product_flash_attention_for_cpu.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace plumb {

// T = tokens of all documents, H = query heads, G = key/value heads, K = head_dim.

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t sliding_window = 0;  // 0: none

  int64_t qkv_columns() const { return (num_heads + 2 * num_kv_heads) * head_dim; }
};

/// What the backward pass needs: per call of the operator its output and log-sum-exp.
struct AttentionKept {
  std::vector<at::Tensor> outputs;
  std::vector<at::Tensor> log_sum_exps;
};

/// qkv: [T, (H + 2G) K], rotated; out: [T, H K], written. document_begin ends with T.
void attention_forward(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                       const at::Tensor& out, AttentionKept& kept);

/// dqkv: [T, (H + 2G) K], written.
void attention_backward(const AttentionShape& shape, const at::Tensor& qkv, std::span<const int64_t> document_begin,
                        const AttentionKept& kept, const at::Tensor& dout, const at::Tensor& dqkv);

}  // namespace plumb
