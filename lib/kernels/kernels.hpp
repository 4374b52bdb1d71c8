// Fused CPU kernels: each does in one pass over existing memory what LibTorch does in several passes over new memory.
// Compiled once per instruction set and selected when the program starts. Each has a plain LibTorch reference, in
// reference.hpp or, if that is a single LibTorch operation, in its test; tests compare both. Every loop treats elements
// in a fixed order and independently of their position in a buffer, so that results do not depend on where a buffer was
// split.
#pragma once

#include <cstdint>

#include "lib/base/dtype.hpp"

namespace plumb {

/// A bfloat16 value as bits; same memory layout as c10::BFloat16.
struct BFloat16 {
  uint16_t bits;
};

struct AdamWStep {
  float learning_rate;
  float beta1, beta2;
  float epsilon;
  float weight_decay;
  float bias_correction1;       // 1 - beta1^step
  float bias_correction2_sqrt;  // sqrt(1 - beta2^step)
  float gradient_scale;         // from clipping, applied when the gradient is read
};

/// Loss of a row of logits: negative log-likelihood, or the same weighted by its own detached probability (dynamic
/// fine-tuning, arXiv:2508.05629).
enum class TokenLoss { kNll, kDft };

struct TokenStats {
  float loss;
  float log_probability;
  float entropy;  // nats
  bool is_correct;
  float mean_logit;          // over the vocabulary
  float log_sum_of_squares;  // log of the sum of squared probabilities over the vocabulary
};

/// Rows to rotate: the first rotated_dim elements of the first num_heads heads of each.
template <class T>
struct RopeRows {
  T* x;
  int64_t row_stride;
  const int32_t* positions;  // [num_rows]
  int64_t num_rows, num_heads, head_dim, rotated_dim;
  bool is_interleaved;  // pairs are (2i, 2i + 1); otherwise (i, i + rotated_dim / 2)
};

/// The weight of a norm: an RMS norm multiplies by offset + weight; a LayerNorm by weight, and adds bias if not null.
template <class T>
struct NormWeight {
  const T* weight;
  const T* bias;
  float offset;
};

/// A feed-forward network between its two products. Gated kinds take rows of 2 dim elements, gate first.
template <class T>
struct FeedForwardKernels {
  /// y = act(gate) * up, or act(x)
  void (*forward)(const T* x, T* y, int64_t num_rows, int64_t dim);
  /// Writes dx, which may be x, and the recomputed y, which the gradient of the next product needs.
  void (*backward)(const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim);
};

/// Kernels on activations of type T, float or BFloat16. Matrices are row-major and contiguous; sums are in float.
template <class T>
struct ActivationKernels {
  /// sum = x + residual (skipped if residual is null; then sum may be null too); y = sum / rms(sum) * weight.
  void (*rms_norm)(const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* rstd, int64_t num_rows,
                   int64_t dim, float epsilon);
  /// Recomputes the y of rms_norm from its saved rstd.
  void (*recompute_rms_norm)(const T* x, const float* rstd, NormWeight<T> weight, T* y, int64_t num_rows, int64_t dim);
  /// dx = carry + gradient through the norm (carry may be null, and may be dx); adds to dweight[dim].
  void (*rms_norm_backward)(const T* dy, const T* x, const float* rstd, NormWeight<T> weight, const T* carry, T* dx,
                            float* dweight, int64_t num_rows, int64_t dim);
  /// y = (x - mean) / deviation * weight + bias; stats: mean, then 1 / deviation, of each row.
  void (*layer_norm)(const T* x, NormWeight<T> weight, T* y, float* stats, int64_t num_rows, int64_t dim,
                     float epsilon);
  void (*recompute_layer_norm)(const T* x, const float* stats, NormWeight<T> weight, T* y, int64_t num_rows,
                               int64_t dim);
  /// As rms_norm_backward(); adds to dbias unless it is null.
  void (*layer_norm_backward)(const T* dy, const T* x, const float* stats, NormWeight<T> weight, const T* carry, T* dx,
                              float* dweight, float* dbias, int64_t num_rows, int64_t dim);
  /// Rotates the heads of each row in place. cos and sin: [positions, rotated_dim / 2]; direction -1 inverts the
  /// rotation.
  void (*rope)(const RopeRows<T>& rows, const float* cos, const float* sin, float direction);
  FeedForwardKernels<T> swiglu;  // SiLU
  FeedForwardKernels<T> geglu;   // tanh approximation of GELU
  FeedForwardKernels<T> gelu;    // the same, without a gate
  /// Unless `gradient_scales` is null, replaces logits [num_rows, vocab] by their gradients times the scale of their
  /// row (scale 0 gives zeros).
  void (*cross_entropy)(T* logits, const int64_t* labels, int64_t num_rows, int64_t vocab, TokenLoss token_loss,
                        const float* gradient_scales, TokenStats* stats);
  void (*to_float)(const T* x, float* y, int64_t n);
  void (*from_float)(const float* x, T* y, int64_t n);
  /// y += x
  void (*add_to_float)(const T* x, float* y, int64_t n);
};

/// c [num_rows, num_columns] = scale * a [num_rows, depth] b [depth, num_columns], or += if `adds`. Strides are in
/// elements. Rows of a and c must be contiguous; for speed, rows or columns of b should be.
struct FloatProduct {
  const float* a;
  int64_t a_row_stride;
  const float* b;
  int64_t b_row_stride, b_column_stride;
  float* c;
  int64_t c_row_stride;
  int64_t num_rows, num_columns, depth;
  float scale;
  bool adds;
};

/// Split a product's rows and columns at multiples of these, so that no tile is partly empty.
inline constexpr int64_t kProductPartRows = 12, kProductPartColumns = 32;

struct FloatKernels {
  /// y = a + b
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  void (*adamw)(float* parameter, const float* gradient, float* moment1, float* moment2, int64_t n, AdamWStep step);
  double (*sum_of_squares)(const float* x, int64_t n);
  /// Largest absolute value; 0 for n = 0. NaN values are skipped.
  float (*largest_magnitude)(const float* x, int64_t n);
  /// Replaces scores by their softmax, after cap tanh(score / cap) if cap > 0, beside one more logit without a value
  /// (minus infinity: none). Returns the logarithm of the sum of the exponentials.
  float (*capped_softmax)(float* scores, int64_t n, float cap, float sink);
  /// From scores before the cap: writes probabilities, and replaces their gradients by those of the scores.
  /// output_dot_gradient: the product of the row's output with its gradient.
  void (*capped_softmax_backward)(const float* scores, float* probabilities, float* gradients, int64_t n, float cap,
                                  float log_sum_exp, float output_dot_gradient);
  /// Runs on one thread. The summation order of an element of c depends on `depth` only, so a product computed in parts
  /// has the same bits as the whole.
  void (*multiply)(const FloatProduct& product);
};

/// Kernels for 4-bit matrices (lib/model/nf4.hpp). Unlike the others, they give the same bits for every instruction
/// set.
struct Nf4Kernels {
  /// Codes of n values, two per byte, the first in the upper half: each is the code nearest to values[i] * factor.
  void (*encode)(const float* values, int64_t n, float factor, uint8_t* codes);
  /// Dequantizes elements [begin, begin + n) of a matrix: the value of the code times the scale of its block, rounded
  /// to `original` (F32, BF16 or F16). codes: of the whole matrix. scales[0]: of the block of 64 that contains element
  /// `begin`.
  void (*to_float)(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, Dtype original, float* out);
  /// The same, then rounded to bfloat16.
  void (*to_bfloat16)(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, Dtype original,
                      BFloat16* out);
};

/// Values of the 16 codes.
inline constexpr float kNf4Values[16] = {-1.0f,
                                         -0.6961928009986877f,
                                         -0.5250730514526367f,
                                         -0.39491748809814453f,
                                         -0.28444138169288635f,
                                         -0.18477343022823334f,
                                         -0.09105003625154495f,
                                         0.0f,
                                         0.07958029955625534f,
                                         0.16093020141124725f,
                                         0.24611230194568634f,
                                         0.33791524171829224f,
                                         0.44070982933044434f,
                                         0.5626170039176941f,
                                         0.7229568362236023f,
                                         1.0f};

/// The kernels for the instruction set of this processor.
template <class T>
const ActivationKernels<T>& activation_kernels();
const FloatKernels& float_kernels();
const Nf4Kernels& nf4_kernels();

/// "x86_64_v4", "x86_64_v3" or "generic": the instruction set that the kernels in use were compiled for.
const char* kernel_instruction_set();

}  // namespace plumb
