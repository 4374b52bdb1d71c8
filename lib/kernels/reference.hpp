// Reference for each kernel of kernels.hpp as plain LibTorch operations in the dtype of the arguments; tests pass
// float64, so that the reference's own rounding is negligible. Gradients come from LibTorch's autograd of the forward
// functions, so that no derivation is repeated. Used by tests only.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/kernels/kernels.hpp"

namespace plumb::reference {

/// x / rms(x) * weight over the last dimension.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

struct RmsNormGradients {
  at::Tensor dx;
  at::Tensor dweight;
};
RmsNormGradients rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight, double epsilon);

/// x: [rows, heads, head_dim]; cos and sin: [rows, head_dim / 2]. Element i of the first half of a head is paired with
/// element i of the second.
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

/// gate_up: [rows, 2 * dim], gate first.
at::Tensor swiglu(const at::Tensor& gate_up);
at::Tensor swiglu_backward(const at::Tensor& dy, const at::Tensor& gate_up);

/// One value per row.
struct CrossEntropy {
  at::Tensor loss;
  at::Tensor log_probability;
  at::Tensor entropy;
  at::Tensor is_correct;
  at::Tensor mean_logit;
  at::Tensor log_sum_of_squares;
};
CrossEntropy cross_entropy(const at::Tensor& logits, const at::Tensor& labels, TokenLoss token_loss);
/// Gradient of the sum of the losses with respect to the logits.
at::Tensor cross_entropy_backward(const at::Tensor& logits, const at::Tensor& labels, TokenLoss token_loss);

struct AdamWState {
  at::Tensor parameter;
  at::Tensor moment1;
  at::Tensor moment2;
};
AdamWState adamw(const AdamWState& before, const at::Tensor& gradient, const AdamWStep& step);

/// |got - expected| / |expected|, Euclidean lengths over all elements; NaN if one is.
double relative_distance(const at::Tensor& got, const at::Tensor& expected);

}  // namespace plumb::reference
