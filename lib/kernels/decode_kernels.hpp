// Kernels of text generation, where a step has few rows and the weights pass from memory to the processor once per
// step: products that read each weight once, in place, and attention of one new token to its text. The bits of a row
// depend neither on the other rows of the batch nor on how the work is divided, so that texts may join and leave a
// batch. Compiled per instruction set like those of kernels.hpp; bfloat16 products also for AVX512-BF16 and for AMX,
// whose tiles read the weights in place and the few rows of x in the layout of the instruction. Source:
// Intel's Architecture Instruction Set Extensions Reference, chapter 3 (TDPBF16PS); paged caches are those of vLLM,
// arXiv:2309.06180.
#pragma once

#include <cstdint>
#include <vector>

#include "lib/kernels/kernels.hpp"

namespace plumb {

/// y [num_rows, num_outputs] = x [num_rows, depth] W^T + bias. Rows of all matrices are contiguous.
template <class T>
struct RowsProduct {
  const T* x;
  int64_t x_row_stride;
  const T* weight;  // [num_outputs, depth]
  const T* bias;    // [num_outputs], or null
  T* y;
  int64_t y_row_stride;
  int64_t num_rows, num_outputs, depth;
};

/// Attention of the query heads that share one key/value head, for one new token, whose key and value are the last in
/// the cache. Pages hold page_tokens keys, [page_tokens, head_dim], and value_offset elements further as many values.
template <class T>
struct CacheAttention {
  const T* queries;  // [num_queries, head_dim]
  int64_t num_queries, head_dim;
  const T* const* pages;
  int64_t page_tokens, value_offset;
  int64_t first_token, num_tokens;  // tokens before the first are out of the window; [first_token, num_tokens) count
  float scale, cap;                 // as in AttentionShape; cap 0: none
  const float* sinks;               // [num_queries], or null
  float* scratch;                   // attention_scratch_floats()
  T* out;                           // [num_queries, head_dim]

  int64_t scratch_floats() const { return num_queries * (num_tokens - first_token + head_dim); }
};

template <class T>
struct DecodeKernels {
  void (*multiply_rows)(const RowsProduct<T>& product);
  void (*attend)(const CacheAttention<T>& attention);
  const char* product_instructions;  // "AMX", "AVX512-BF16", or as kernel_instruction_set()
};

/// On the logits of one row.
struct SamplingKernels {
  /// Index of the first of the largest values; -1 if one is NaN.
  int64_t (*largest)(const float* x, int64_t n);
  /// y = exp((x - most) * factor), 0 where that is below 1e-37; returns the sum.
  float (*exponentials)(const float* x, int64_t n, float most, float factor, float* y);
};

/// The kernels for this processor.
template <class T>
const DecodeKernels<T>& decode_kernels();
const SamplingKernels& sampling_kernels();

/// All that this processor can execute, the fastest last, for tests.
const std::vector<const DecodeKernels<BFloat16>*>& all_bfloat16_decode_kernels();

}  // namespace plumb
