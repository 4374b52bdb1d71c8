// Kernels of mixtures of experts, compiled and selected like those of kernels.hpp.
// Source: transformers modeling_mixtral.py, modeling_gpt_oss.py.
#pragma once

#include <cstdint>

#include "lib/kernels/kernels.hpp"

namespace plumb {

/// The activation of gpt-oss: (u + 1) g sigmoid(alpha g) of g = min(gate, limit) and u = up clamped to +-limit.
/// Like LibTorch's clamp, it has no gradient at a limit.
struct ClampedSwiglu {
  float limit = 7;
  float alpha = 1.702f;
};

/// On activations of type T, float or BFloat16. Sums are in float.
template <class T>
struct ExpertKernels {
  /// y = sum of weights[i] * rows[i] over i < count, in this order, rounded once.
  void (*weighted_sum)(const T* const* rows, const float* weights, int64_t count, T* y, int64_t dim);
  /// The dot product of two rows.
  float (*dot)(const T* a, const T* b, int64_t dim);
  /// gate_up: [num_rows, 2 * dim], gate first.
  void (*clamped_swiglu)(const T* gate_up, T* y, int64_t num_rows, int64_t dim, ClampedSwiglu shape);
  /// Also writes the recomputed y. dgate_up may be gate_up.
  void (*clamped_swiglu_backward)(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim,
                                  ClampedSwiglu shape);
};

/// The kernels for the instruction set of this processor.
template <class T>
const ExpertKernels<T>& expert_kernels();

}  // namespace plumb
