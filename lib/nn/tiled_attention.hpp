// Causal attention in bfloat16, and in float32 what LibTorch has no operator for: capped scores, c tanh(scale q.k / c),
// and sinks. Scores exist for a tile of queries at a time, only for the keys that the tile sees, and are computed again
// in the backward pass. Each head sums in a fixed order, so that the bits do not depend on the number of threads. In
// bfloat16 sums, softmax and the gradients of the result are float32; probabilities and the gradients of scores are
// rounded for the products with them (PairKernels, which the processor must have). Source: FlashAttention-2,
// arXiv:2307.08691, and transformers modeling_gemma2.py and modeling_gpt_oss.py. The plain reference is
// reference::attention.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/nn/attention.hpp"

namespace plumb {

// N = texts of equal length, T = their tokens, H = query heads, G = key/value heads, K = head_dim, Q = (H + 2 G) K,
// O = H K. Tensors are contiguous; qkv, out and dout float32 or bfloat16, all others float32.

struct TiledOutput {
  at::Tensor out_NTO;
  at::Tensor log_sum_exp_NHT;
};

TiledOutput tiled_attention_forward(const AttentionShape& shape, const at::Tensor& qkv_NTQ);

/// Returns the gradient of qkv, [N, T, Q], and adds to that of the sinks, [H], unless it is undefined.
at::Tensor tiled_attention_backward(const AttentionShape& shape, const at::Tensor& qkv_NTQ, const TiledOutput& saved,
                                    const at::Tensor& dout_NTO, const at::Tensor& dsinks_H);

}  // namespace plumb
