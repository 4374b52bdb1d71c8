// LibTorch's flash attention for CUDA, the only operator of it that plumb calls by name: causal, over documents of any
// length, with fewer key heads than query heads, and with the same bits in every run.
// Source: FlashAttention-2, arXiv:2307.08691; ATen/native/transformers/cuda/flash_attn/flash_api.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace plumb {

// T = queries, S = keys of all documents, H = query heads, G = key/value heads, K = head_dim.

/// Queries and keys of each document are consecutive; the last query sees all keys, those before it one less each.
struct FlashInput {
  at::Tensor q_THK, k_SGK, v_SGK;           // bfloat16; elements of a head are contiguous
  at::Tensor query_begin, key_begin;        // int32: of each document, then T or S
  int64_t most_queries = 0, most_keys = 0;  // of one document
  double scale = 1;
  int64_t window = 0;  // keys that a query sees; 0: all
};

struct FlashOutput {
  at::Tensor out_THK;
  at::Tensor log_sum_exp_HT;  // float32
};
FlashOutput flash_forward(const FlashInput& input);

struct FlashGradients {
  at::Tensor dq_THK, dk_SGK, dv_SGK;
};
/// Takes any softmax that `output` describes: the probabilities are exp(score - log_sum_exp).
FlashGradients flash_backward(const FlashInput& input, const FlashOutput& output, const at::Tensor& dout_THK);

}  // namespace plumb
