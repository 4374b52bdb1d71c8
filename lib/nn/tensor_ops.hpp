// plumb's own kernels as functions on tensors: one table per kind of device, chosen by the tensor. Blocks, decoding and
// losses call nothing else, so that another device is another table beside this one.
// The plain reference of each kernel is in lib/kernels/reference.hpp or, for whole blocks, block_reference.hpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/kernels/kernels.hpp"
#include "lib/model/nf4.hpp"

namespace plumb {

// R = rows, C = columns. Tensors are contiguous, activations float32 or bfloat16; gradients of parameters are float32.

/// What a norm keeps for its backward pass, and the weight it was given.
struct NormInput {
  const at::Tensor& x_RC;
  const at::Tensor& rstd_R;  // float32
  const at::Tensor& weight_C;
};

/// The query and key heads of a row, which are its first columns, and the weights of their norms.
struct HeadNorms {
  const at::Tensor& q_norm_K;
  const at::Tensor& k_norm_K;
  int64_t num_heads, num_kv_heads;
  double epsilon;

  int64_t head_dim() const { return q_norm_K.size(0); }
};

/// Cosines and sines by position, and the position of each row.
struct Rotation {
  const at::Tensor& cos;        // float32 [positions, head_dim / 2]
  const at::Tensor& sin;        // float32 [positions, head_dim / 2]
  const at::Tensor& positions;  // int32 [R]
};

/// Inverted dropout: a pure function of (seed, stream, element), so that the backward pass sees the same mask and
/// neither ranks nor a restart change it.
struct Dropout {
  double rate = 0;  // 0: none
  uint64_t seed = 0;
  uint64_t stream = 0;
};

struct TensorOps {
  /// y = x / rms(x) * weight, and rstd [R]. y may have more rows than x, which are left alone.
  void (*rms_norm)(const at::Tensor& x_RC, const at::Tensor& weight_C, double epsilon, const at::Tensor& y_RC,
                   const at::Tensor& rstd_R);
  /// sum = x + residual, y = sum / rms(sum) * weight, and rstd [R].
  void (*add_rms_norm)(const at::Tensor& x_RC, const at::Tensor& residual_RC, const at::Tensor& sum_RC,
                       const at::Tensor& weight_C, double epsilon, const at::Tensor& y_RC, const at::Tensor& rstd_R);
  /// y as rms_norm made it.
  at::Tensor (*recompute_rms_norm)(const NormInput& input);
  /// Returns carry + the gradient of x; carry may be undefined. Adds to dweight [C], float32.
  at::Tensor (*rms_norm_backward)(const at::Tensor& dy_RC, const NormInput& input, const at::Tensor& carry_RC,
                                  const at::Tensor& dweight_C);

  /// Normalizes each query and key head of x into y (which may be x); rstd [R, heads]. Other columns are left alone.
  void (*norm_heads)(const at::Tensor& x_RC, const HeadNorms& norms, const at::Tensor& y_RC, const at::Tensor& rstd_RH);
  /// dx in place of the gradient of y. Adds to the gradients of both weights, float32.
  void (*norm_heads_backward)(const at::Tensor& x_RC, const HeadNorms& norms, const at::Tensor& rstd_RH,
                              const at::Tensor& dx_RC, const at::Tensor& dq_norm_K, const at::Tensor& dk_norm_K);
  /// Rotates the first num_heads heads of each row in place; direction -1 undoes it.
  void (*rope)(const at::Tensor& x_RC, const Rotation& rotation, int64_t num_heads, float direction);

  /// [R, 2 F], gate first, to silu(gate) * up, [R, F].
  at::Tensor (*swiglu)(const at::Tensor& gate_up_RE);
  /// Replaces gate_up by its gradient and returns swiglu(gate_up) again, for the product that follows it.
  at::Tensor (*swiglu_backward)(const at::Tensor& dy_RF, const at::Tensor& gate_up_RE);

  /// stats of each label's row. With `scales`, one for each, logits become their own gradient times that. logits may
  /// have more rows than there are labels, which are left alone.
  void (*cross_entropy)(const at::Tensor& logits_RV, std::span<const int64_t> labels, TokenLoss kind,
                        const float* scales, TokenStats* stats);
  /// sum += dlogits^T x in float32, or = where `is_first`; bfloat16 products go through `scratch`, which is kept.
  void (*add_head_gradient)(const at::Tensor& dlogits_RV, const at::Tensor& x_RC, bool is_first,
                            const at::Tensor& gradient_VC, at::Tensor& scratch);

  /// gradient_VC (float32) += row t of gradient_TC to the row of token t, in the order of tokens.
  void (*add_rows_by_token)(const at::Tensor& gradient_TC, std::span<const int64_t> token_ids,
                            const at::Tensor& gradient_VC);

  /// x with a fraction of its elements zero and the others enlarged.
  at::Tensor (*drop_out)(const at::Tensor& x, const Dropout& dropout);
  /// Elements [begin, begin + out.numel()) of the matrix into `out`, float32 or bfloat16.
  void (*nf4_dequantize)(const Nf4View& matrix, int64_t begin, const at::Tensor& out);
  /// [R], float32, each row in a fixed order.
  at::Tensor (*squared_row_norms)(const at::Tensor& weight_RC);

  /// How many rows a product of `rows` rows is given, so that few sizes occur where a library keeps code for each.
  int64_t (*round_up_rows)(int64_t rows, int64_t element_bytes);
};

const TensorOps& cpu_ops();
/// Throws std::logic_error for a device that this build has no kernels for.
const TensorOps& ops_of(at::Device device);
inline const TensorOps& ops_of(const at::Tensor& tensor) { return ops_of(tensor.device()); }

/// The largest part of a head's gradient that add_head_gradient keeps in its scratch.
inline constexpr int64_t kHeadGradientSliceElements = 1 << 20;

struct Normed {
  at::Tensor y;       // like x
  at::Tensor rstd_R;  // float32
};
Normed rms_norm(const at::Tensor& x_RC, const at::Tensor& weight_C, double epsilon);

/// Those rows of x, and rows of zeros up to round_up_rows(). Undefined rows: x itself.
at::Tensor gather_rows(const at::Tensor& x_RC, const at::Tensor& rows);
/// The inverse: back to their places among num_rows rows of zeros. Undefined rows: `gathered` itself.
at::Tensor scatter_rows(const at::Tensor& gathered, const at::Tensor& rows, int64_t num_rows);

/// A view of host values, which must outlive it.
at::Tensor as_tensor(std::span<const int64_t> values);

}  // namespace plumb
