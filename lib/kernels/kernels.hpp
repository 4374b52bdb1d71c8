// The fused CPU kernels: what LibTorch would do in several passes over fresh memory, done in one over memory that is
// there. Compiled once per instruction set and chosen when the program starts; each has a plain LibTorch reference, in
// reference.hpp or, where that is one operation of LibTorch, in its test, which holds the two together.
// Every loop handles elements one by one in a fixed order, so results do not depend on where a buffer was split.
#pragma once

#include <cstdint>

#include "lib/base/dtype.hpp"

namespace plumb {

/// bfloat16 by its bits; the same memory as c10::BFloat16.
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
  float gradient_scale;         // clipping, applied to the gradient as it is read
};

/// How a row of logits becomes a loss: negative log-likelihood, or the same weighted by its own detached probability
/// (dynamic fine-tuning, arXiv:2508.05629).
enum class TokenLoss { kNll, kDft };

struct TokenStats {
  float loss;
  float log_probability;
  float entropy;  // nats
  bool is_correct;
  float mean_logit;          // over the vocabulary
  float log_sum_of_squares;  // log of the sum of squared probabilities over the vocabulary
};

/// The heads to rotate: the first num_heads of each row.
template <class T>
struct RopeRows {
  T* x;
  int64_t row_stride;
  const int32_t* positions;  // [num_rows]
  int64_t num_rows, num_heads, head_dim;
};

/// Kernels on activations of type T: float or BFloat16. Matrices are row-major and contiguous; sums are in float.
template <class T>
struct ActivationKernels {
  /// sum = x + residual (skipped when residual is null; then sum may be null too); y = sum / rms(sum) * weight.
  void (*rms_norm)(const T* x, const T* residual, T* sum, const T* weight, T* y, float* rstd, int64_t num_rows,
                   int64_t dim, float epsilon);
  /// y as rms_norm made it, from the kept rstd.
  void (*rms_norm_again)(const T* x, const float* rstd, const T* weight, T* y, int64_t num_rows, int64_t dim);
  /// dx = carry + gradient through the norm (carry may be null, and may be dx); dweight[dim] is added to.
  void (*rms_norm_backward)(const T* dy, const T* x, const float* rstd, const T* weight, const T* carry, T* dx,
                            float* dweight, int64_t num_rows, int64_t dim);
  /// Rotates the heads of each row in place; cos and sin: [positions, head_dim / 2]; direction -1 undoes it.
  void (*rope)(const RopeRows<T>& rows, const float* cos, const float* sin, float direction);
  /// gate_up: [num_rows, 2 * dim], gate first; y = silu(gate) * up.
  void (*swiglu)(const T* gate_up, T* y, int64_t num_rows, int64_t dim);
  /// Also writes y again, for the gradient of the projection that follows.
  void (*swiglu_backward)(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim);
  /// logits [num_rows, vocab] become their own gradient times their row's scale (0 gives zeros), unless
  /// `gradient_scales` is null.
  void (*cross_entropy)(T* logits, const int64_t* labels, int64_t num_rows, int64_t vocab, TokenLoss token_loss,
                        const float* gradient_scales, TokenStats* stats);
  void (*to_float)(const T* x, float* y, int64_t n);
  void (*from_float)(const float* x, T* y, int64_t n);
  /// y += x
  void (*add_to_float)(const T* x, float* y, int64_t n);
};

/// c [num_rows, num_columns] = scale * a [num_rows, depth] b [depth, num_columns], or added to c. Strides in elements;
/// rows of a and c are contiguous, and for speed rows or columns of b.
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

/// Parts of a product's rows and columns that begin at multiples of these waste no work at their edges.
inline constexpr int64_t kProductPartRows = 12, kProductPartColumns = 32;

struct FloatKernels {
  /// y = a + b
  void (*add)(const float* a, const float* b, float* y, int64_t n);
  void (*adamw)(float* parameter, const float* gradient, float* moment1, float* moment2, int64_t n, AdamWStep step);
  double (*sum_of_squares)(const float* x, int64_t n);
  /// Of no elements: 0. A NaN is passed over.
  float (*largest_magnitude)(const float* x, int64_t n);
  /// On one thread. An element of c is summed in an order that only the depth decides, so parts of rows and columns
  /// have the bits of the whole.
  void (*multiply)(const FloatProduct& product);
};

/// Of matrices in 4 bits (lib/model/nf4.hpp). Unlike those above, the same bits in every copy.
struct Nf4Kernels {
  /// Codes of n values, two a byte, the first in the high half: of the value nearest to values[i] * factor.
  void (*encode)(const float* values, int64_t n, float factor, uint8_t* codes);
  /// Elements [begin, begin + n) of the matrix that `codes` is of: the value of the code times its block's scale,
  /// rounded to `original` (F32, BF16 or F16). scales[0] is that of the block of 64 with element `begin`.
  void (*to_float)(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, Dtype original, float* out);
  /// The same, rounded to bfloat16 after that.
  void (*to_bfloat16)(const uint8_t* codes, const float* scales, int64_t begin, int64_t n, Dtype original,
                      BFloat16* out);
};

/// What the 16 codes stand for.
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

template <class T>
const ActivationKernels<T>& activation_kernels();
const FloatKernels& float_kernels();
const Nf4Kernels& nf4_kernels();

/// "x86-64-v4", "x86-64-v3" or "generic": what the tables above were compiled for.
const char* kernel_instruction_set();

}  // namespace plumb
