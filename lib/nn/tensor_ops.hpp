// plumb's own kernels as functions on tensors, with one table per kind of device, selected by the tensor. Blocks,
// decoding and losses call kernels only through these tables, so that a new device needs only another table. The plain
// reference of each kernel is in lib/kernels/reference.hpp or, for whole blocks, in block_reference.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/kernels/kernels.hpp"
#include "lib/model/model_config.hpp"
#include "lib/model/nf4.hpp"

namespace plumb {

// R = rows, C = columns. Tensors are contiguous, activations float32 or bfloat16; gradients of parameters are float32.

/// A norm and its parameters. bias_C is undefined if it has none.
struct Norm {
  NormConfig config;
  at::Tensor weight_C, bias_C;
};

/// Saved input of a norm for its backward pass. stats, float32: of an RMS norm 1 / rms, [R]; of a LayerNorm mean and
/// 1 / deviation, [R, 2].
struct NormInput {
  const at::Tensor& x_RC;
  const at::Tensor& stats;
};

/// Norms of queries and keys, which are the first columns of a row of qkv: of each head if the weights have its size,
/// else of all heads together.
struct HeadNorms {
  const at::Tensor& q_norm_K;
  const at::Tensor& k_norm_K;
  int64_t num_heads, num_kv_heads, head_dim;
  NormConfig config;

  int64_t num_queries() const { return num_heads * head_dim / q_norm_K.size(0); }  // normed separately, per row
  int64_t num_keys() const { return num_kv_heads * head_dim / k_norm_K.size(0); }
};

/// Cosines and sines, and which row of them rotates each token.
struct Rotation {
  at::Tensor cos, sin;   // float32 [rows of the table, elements that rotate / 2]
  at::Tensor positions;  // int32 [R]: row of the table
  int64_t head_dim = 0;
  bool is_interleaved = false;  // pairs are (2i, 2i + 1)
};

/// Inverted dropout: a pure function of (seed, stream, element), so that the backward pass sees the same mask and
/// neither ranks nor a restart change it.
struct Dropout {
  double rate = 0;  // 0: none
  uint64_t seed = 0;
  uint64_t stream = 0;
};

struct TensorOps {
  /// Writes y and stats. y may have more rows than x; the extra rows are not written.
  void (*normalize)(const at::Tensor& x_RC, const Norm& norm, const at::Tensor& y_RC, const at::Tensor& stats);
  /// sum = x + residual, and y and stats of the sum.
  void (*add_normalize)(const at::Tensor& x_RC, const at::Tensor& residual_RC, const at::Tensor& sum_RC,
                        const Norm& norm, const at::Tensor& y_RC, const at::Tensor& stats);
  /// Recomputes the y of normalize.
  at::Tensor (*recompute_norm)(const NormInput& input, const Norm& norm);
  /// Returns carry + the gradient of x; carry may be undefined. Adds to the gradients of weight and bias, float32 [C].
  at::Tensor (*norm_backward)(const at::Tensor& dy_RC, const NormInput& input, const Norm& norm,
                              const at::Tensor& carry_RC, const at::Tensor& dweight_C, const at::Tensor& dbias_C);

  /// Normalizes queries and keys of x into y (which may be x); rstd [R, norms of a row]. Other columns are not written.
  void (*norm_heads)(const at::Tensor& x_RC, const HeadNorms& norms, const at::Tensor& y_RC, const at::Tensor& rstd_RH);
  /// Replaces the gradient of y in dx by that of x. Adds to the gradients of both weights, float32.
  void (*norm_heads_backward)(const at::Tensor& x_RC, const HeadNorms& norms, const at::Tensor& rstd_RH,
                              const at::Tensor& dx_RC, const at::Tensor& dq_norm_K, const at::Tensor& dk_norm_K);
  /// Rotates the first num_heads heads of each row in place; direction -1 inverts the rotation.
  void (*rope)(const at::Tensor& x_RC, const Rotation& rotation, int64_t num_heads, float direction);

  /// The feed-forward network between its products: [R, F] of gate_up [R, 2 F], gate first, or of [R, F] without gate.
  at::Tensor (*feed_forward)(FeedForward kind, const at::Tensor& gate_up_RE);
  /// Replaces gate_up by its gradient and returns the recomputed feed_forward(gate_up), the input of the product after
  /// it.
  at::Tensor (*feed_forward_backward)(FeedForward kind, const at::Tensor& dy_RF, const at::Tensor& gate_up_RE);

  /// Writes the stats of each label's row. With `scales`, one per label, logits are replaced by their gradients times
  /// the scale. logits may have more rows than labels; the extra rows are not touched.
  void (*cross_entropy)(const at::Tensor& logits_RV, std::span<const int64_t> labels, TokenLoss kind,
                        const float* scales, TokenStats* stats);
  /// gradient (float32) += dlogits^T x, or = if `is_first`. LibTorch's bfloat16 products, on CPUs without others, go
  /// through `scratch`, which is allocated on first use.
  void (*add_head_gradient)(const at::Tensor& dlogits_RV, const at::Tensor& x_RC, bool is_first,
                            const at::Tensor& gradient_VC, at::Tensor& scratch);

  /// Row i of y is x[rows[i]]; the rows of y after rows.size() are zero.
  void (*take_rows)(const at::Tensor& x_VC, std::span<const int64_t> rows, const at::Tensor& y_RC);
  /// y[rows[i]] = x[i]. Rows that are given twice get equal values.
  void (*put_rows)(const at::Tensor& x_RC, std::span<const int64_t> rows, const at::Tensor& y_VC);
  /// gradient_VC (float32): adds row t of gradient_TC to the row of token t, in the order of tokens; not for
  /// frozen_token (-1: none).
  void (*add_rows_by_token)(const at::Tensor& gradient_TC, std::span<const int64_t> token_ids, int64_t frozen_token,
                            const at::Tensor& gradient_VC);

  /// Dot products of the rows of x with `weight`, float32, each summed in double in the order of elements: the order in
  /// a matrix product depends on its number of rows.
  std::vector<float> (*score_rows)(const at::Tensor& x_RC, const at::Tensor& weight_C);
  /// dx = dscores x weight; adds the gradient of the weight, one row after the other, unless it is undefined. All
  /// float32.
  void (*score_rows_backward)(std::span<const float> dscores, const at::Tensor& x_RC, const at::Tensor& weight_C,
                              const at::Tensor& dx_RC, const at::Tensor& dweight_C);

  /// Returns x with a fraction `rate` of its elements set to zero and the others scaled by 1 / (1 - rate).
  at::Tensor (*drop_out)(const at::Tensor& x, const Dropout& dropout);
  /// Dequantizes elements [begin, begin + out.numel()) of the matrix into `out`, float32 or bfloat16.
  void (*nf4_dequantize)(const Nf4View& matrix, int64_t begin, const at::Tensor& out);
  /// Squared norm of each row, float32 [R], each summed in a fixed order.
  at::Tensor (*squared_row_norms)(const at::Tensor& weight_RC);

  /// Number of rows to which a product of `rows` rows is padded. Few distinct sizes matter if a library caches code for
  /// each.
  int64_t (*round_up_rows)(int64_t rows, int64_t element_bytes);
};

/// The table for CPU tensors.
const TensorOps& cpu_ops();
/// The table for a device. Throws std::logic_error if this build has no kernels for it.
const TensorOps& ops_of(at::Device device);
inline const TensorOps& ops_of(const at::Tensor& tensor) { return ops_of(tensor.device()); }

/// Largest slice of the head's gradient that add_head_gradient computes at a time in its scratch.
inline constexpr int64_t kHeadGradientSliceElements = 1 << 20;

/// Uninitialized stats for these rows.
at::Tensor empty_norm_stats(const at::Tensor& x_RC, const NormConfig& config);

struct Normed {
  at::Tensor y;  // like x
  at::Tensor stats;
};
Normed normalize(const at::Tensor& x_RC, const Norm& norm);

/// Returns the given rows of x.
at::Tensor take_rows(const at::Tensor& x_VC, std::span<const int64_t> rows);
/// `rows`: int64 on the host. Returns the given rows of x, padded with zero rows to round_up_rows(). If `rows` is
/// undefined, returns x itself.
at::Tensor gather_rows(const at::Tensor& x_RC, const at::Tensor& rows);
/// Inverse of gather_rows(): a tensor of num_rows rows that is zero except for the given rows. If `rows` is undefined,
/// returns `gathered` itself.
at::Tensor scatter_rows(const at::Tensor& gathered, const at::Tensor& rows, int64_t num_rows);

/// A view of `values`, which must outlive it.
at::Tensor as_tensor(std::span<const int64_t> values);

}  // namespace plumb
