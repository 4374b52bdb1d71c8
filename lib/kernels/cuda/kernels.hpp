// CUDA counterparts of the CPU kernels (lib/kernels/kernels.hpp, expert_kernels.hpp, lib/optim, lib/model/nf4.hpp,
// partition/canonical_sum.hpp), as functions on pointers, sizes and a stream. They know no tensors, so that a file
// compiles in seconds, and the same files compile with g++ and run on the CPU (tests/cuda_on_cpu), where each is held
// to its CPU counterpart.
//
// Each function enqueues its work on `stream` and returns; pointers are to the memory of the device unless they are
// said to be of the host. Matrices are row-major and contiguous; T is float or BFloat16, and sums are in float. Any
// size and alignment is right; rows that start at multiples of 16 bytes are fast. Grids depend on sizes only, and no
// sum uses atomics on floats, so the bits are the same on every run. "Same bits" below means those of the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "lib/kernels/expert_kernels.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb::cuda {

// ---- norms.cu ----

/// Rows to normalize. rows_per_token of them are consecutive (heads), then come those of the next token. A plain matrix
/// has one row per token and token_stride = dim.
struct NormRows {
  int64_t num_rows;
  int64_t dim;
  int64_t rows_per_token;
  int64_t token_stride;  // elements from one token to the next
  int64_t stats_stride;  // stats of a token, counted in rows

  static NormRows of_matrix(int64_t num_rows, int64_t dim) { return {num_rows, dim, 1, dim, 1}; }
};

/// As ActivationKernels::rms_norm and layer_norm, but both can add a residual.
template <class T>
void rms_norm(const NormRows& rows, const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* rstd,
              float epsilon, cudaStream_t stream);
template <class T>
void layer_norm(const NormRows& rows, const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* stats,
                float epsilon, cudaStream_t stream);
template <class T>
void recompute_rms_norm(const NormRows& rows, const T* x, const float* rstd, NormWeight<T> weight, T* y,
                        cudaStream_t stream);
template <class T>
void recompute_layer_norm(const NormRows& rows, const T* x, const float* stats, NormWeight<T> weight, T* y,
                          cudaStream_t stream);

/// Size in floats of the scratch of the backward passes.
int64_t norm_scratch_elements(int64_t dim);
/// As ActivationKernels::rms_norm_backward and layer_norm_backward. dx may be dy or carry.
template <class T>
void rms_norm_backward(const NormRows& rows, const T* dy, const T* x, const float* rstd, NormWeight<T> weight,
                       const T* carry, T* dx, float* dweight, float* scratch, cudaStream_t stream);
template <class T>
void layer_norm_backward(const NormRows& rows, const T* dy, const T* x, const float* stats, NormWeight<T> weight,
                         const T* carry, T* dx, float* dweight, float* dbias, float* scratch, cudaStream_t stream);

// ---- rope.cu ----

/// As ActivationKernels::rope. rows.positions, cos and sin are memory of the device.
template <class T>
void rope(const RopeRows<T>& rows, const float* cos, const float* sin, float direction, cudaStream_t stream);

// ---- feed_forward.cu ----

enum class Activation { kSwiGlu, kGeGlu, kGelu };  // as in ActivationKernels
/// As FeedForwardKernels.
template <class T>
void feed_forward(Activation kind, const T* x, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream);
template <class T>
void feed_forward_backward(Activation kind, const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim,
                           cudaStream_t stream);
/// As ExpertKernels.
template <class T>
void clamped_swiglu(const T* gate_up, T* y, int64_t num_rows, int64_t dim, ClampedSwiglu shape, cudaStream_t stream);
template <class T>
void clamped_swiglu_backward(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim,
                             ClampedSwiglu shape, cudaStream_t stream);

// ---- cross_entropy.cu ----

/// As ActivationKernels::cross_entropy.
template <class T>
void cross_entropy(T* logits, const int64_t* labels, int64_t num_rows, int64_t vocab, TokenLoss token_loss,
                   const float* gradient_scales, TokenStats* stats, cudaStream_t stream);

// ---- elements.cu: same bits, except for the payload of a NaN ----

template <class T>
void to_float(const T* x, float* y, int64_t n, cudaStream_t stream);
template <class T>
void from_float(const float* x, T* y, int64_t n, cudaStream_t stream);
/// y += x
template <class T>
void add_to_float(const T* x, float* y, int64_t n, cudaStream_t stream);
/// As TensorOps::drop_out: keeps element i times `scale`, or zero where its word of Philox is below `threshold`.
template <class T>
void drop_out(const T* x, T* y, int64_t n, uint64_t seed, uint64_t dropout_stream, uint32_t threshold, float scale,
              cudaStream_t stream);

// ---- rows.cu: same bits ----

/// y [num_rows, dim]: row i is x[rows[i]] for i < count, then zero. Embeddings are rows of token ids.
template <class T>
void take_rows(const T* x, const int64_t* rows, int64_t count, T* y, int64_t num_rows, int64_t dim,
               cudaStream_t stream);
/// y[rows[i]] = x[i] for i < count; the rows must differ.
template <class T>
void put_rows(const T* x, const int64_t* rows, int64_t count, T* y, int64_t dim, cudaStream_t stream);

/// The rows of each token, in ascending order: those of token[r] are row[begin[r]] to row[begin[r + 1]]. The tokens
/// differ.
struct TokenRuns {
  int64_t num_runs;
  const int64_t* token;  // [num_runs]
  const int64_t* begin;  // [num_runs + 1]
  const int64_t* row;
};
/// As TensorOps::add_rows_by_token: adds to the rows of `gradient` of these tokens, one after the other.
template <class T>
void add_rows_by_token(const T* x, const TokenRuns& runs, float* gradient, int64_t dim, cudaStream_t stream);

/// scores[r] = x[r] . weight, summed in double in the order of elements (lib/objective/reward.cpp).
void score_rows(const float* x, const float* weight, float* scores, int64_t num_rows, int64_t dim, cudaStream_t stream);
/// dx[r] = dscores[r] weight; dweight += dscores[r] x[r] for each row in turn, unless it is null.
void score_rows_backward(const float* dscores, const float* x, const float* weight, float* dx, float* dweight,
                         int64_t num_rows, int64_t dim, cudaStream_t stream);

// ---- experts.cu: see ExpertOps (lib/nn/expert_ops.hpp) ----

inline constexpr int64_t kMaxChosenExperts = 32;
/// As ExpertOps::route, as far as it is by token. logits: [num_tokens, num_experts]; probability likewise; weight and
/// expert: [num_tokens, num_chosen]. The experts have the same bits, the probabilities not.
struct RouterShape {
  int64_t num_tokens, num_experts, num_chosen;
  bool renormalizes, rounds_weights;
};
template <class T>
void route(const RouterShape& shape, const T* logits, float* probability, float* weight, int32_t* expert,
           cudaStream_t stream);
/// As ExpertOps::route_backward. dprobability: [num_experts], or null.
template <class T>
void route_backward(const RouterShape& shape, const float* probability, const int32_t* expert, const float* weighted,
                    const double* dprobability, T* dlogits, cudaStream_t stream);

/// y [num_rows, dim]: row i is x[token[i]] for i < count, then zero. weight: null, or [tokens, num_chosen], and row i
/// is multiplied by its element (token[i], slot[i]).
template <class T>
void gather_expert_rows(const T* x, const int32_t* token, const int32_t* slot, const float* weight, int64_t num_chosen,
                        int64_t count, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream);

/// Rows of all tokens, each times a weight; weight null: 1.
template <class T>
struct WeightedTerm {
  const T* rows;
  const float* weight;
};
inline constexpr int kMaxTerms = 4;
/// The arguments of ExpertOps::combine. expert and row: [num_tokens, num_chosen]; rows_of_expert: [num_experts]
/// pointers on the device; weight as `expert`, or null.
template <class T>
struct CombinedRows {
  int64_t num_tokens, num_chosen;
  const T* const* rows_of_expert;
  const int32_t *expert, *row;
  const float* weight;
  int num_terms;
  WeightedTerm<T> terms[kMaxTerms];
};
template <class T>
void combine_rows(const CombinedRows<T>& rows, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream);
/// Each row times its weight.
template <class T>
void scale_rows(const T* x, const float* weight, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream);
/// dots[r] = a[r] . b[r * b_stride]
template <class T>
void row_dots(const T* a, const T* b, int64_t b_stride, float* dots, int64_t num_rows, int64_t dim,
              cudaStream_t stream);

// ---- adamw.cu ----

/// As FloatKernels::adamw. Also writes the parameters as bfloat16 to `copy` unless it is null, so that the next gather
/// needs no pass for that.
void adamw(float* parameter, const float* gradient, float* moment1, float* moment2, BFloat16* copy, int64_t n,
           const AdamWStep& step, cudaStream_t stream);

/// Copies of DynamicMap::values and thresholds (lib/kernels/dynamic_map.hpp), 256 each.
struct DynamicTables {
  const float* values;
  const float* thresholds;
};
/// As adamw_update_8bit (lib/optim/adamw_8bit.hpp). Run r of `num_runs` ends before element run_end[r].
struct Adamw8Bit {
  float* parameter;
  const float* gradient;
  uint8_t *codes1, *codes2;
  float *scales1, *scales2;
  DynamicTables tables1, tables2;  // signed, unsigned
  const int64_t* run_end;
  const bool* is_decayed;
  int num_runs;
  BFloat16* copy;  // or null
};
void adamw_8bit(const Adamw8Bit& arrays, int64_t n, const AdamWStep& step, cudaStream_t stream);

// ---- ordered_sum.cu: same bits ----

inline constexpr int kMaxSubtreeLevel = 4, kMaxOpenSubtrees = 48;
/// One step of push_summands (partition/canonical_sum.hpp): `leaves`, 2^level of them, are added as a balanced tree,
/// and the result to the open subtrees that it completes, the newest first.
struct SubtreeSum {
  int level;
  bool is_bfloat16;  // the leaves; else float
  const void* leaves[1 << kMaxSubtreeLevel];
  int num_open;
  const float* open[kMaxOpenSubtrees];
  float* out;  // may be one of `open`
};
void add_subtree(const SubtreeSum& sum, int64_t num_elements, cudaStream_t stream);

// ---- squares.cu: same bits ----

/// Adds the squares of n elements, a multiple of kSquaresChunk, to the bins of an ExactSum (lib/base/exact_sum.hpp),
/// chunk by chunk as ShardMemory::add_squares. The caller starts with zeros and calls ExactSum::carry() on the host.
inline constexpr int64_t kSquaresChunk = 256;
void add_squares(const float* x, int64_t n, int64_t* bins, cudaStream_t stream);
/// As TensorOps::squared_row_norms.
template <class T>
void squared_row_norms(const T* x, float* squares, int64_t num_rows, int64_t dim, cudaStream_t stream);

// ---- checksum.cu: same bits ----

inline constexpr int64_t kLeastXxh3Bytes = 241;
/// XXH3_128bits of each piece of `piece_bytes` (the last may be shorter): its low and its high half. Data and sizes are
/// multiples of 8, and every piece has at least kLeastXxh3Bytes.
void xxh3_128(const void* data, int64_t bytes, int64_t piece_bytes, uint64_t* hashes, cudaStream_t stream);

// ---- nf4.cu: same bits ----

/// A quantized matrix (Nf4View, lib/model/nf4.hpp). Scales are either `scales`, or nested: map[absmax_codes[block]] *
/// nested_absmax[block / 256] + *mean.
struct Nf4Matrix {
  const uint8_t* codes;
  const float* scales;  // null if they are nested
  const uint8_t* absmax_codes;
  const float *nested_absmax, *map, *mean;
  Dtype original;  // F32, BF16 or F16
};
/// Elements [begin, begin + n), as nf4_dequantize and nf4_dequantize_bf16.
template <class T>
void nf4_dequantize(const Nf4Matrix& matrix, int64_t begin, int64_t n, T* out, cudaStream_t stream);
/// Codes and scales of the blocks of 64, as nf4_quantize. codes: [(n + 1) / 2].
void nf4_quantize(const float* values, int64_t n, uint8_t* codes, float* scales, cudaStream_t stream);
/// As quantize_block (lib/kernels/dynamic_map.hpp) for each block of 256 of values[i] - offset: the nested scales of
/// NF4.
void quantize_dynamic(const DynamicTables& tables, const float* values, float offset, int64_t n, uint8_t* codes,
                      float* scales, cudaStream_t stream);

}  // namespace plumb::cuda
