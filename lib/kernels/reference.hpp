// What each kernel of kernels.hpp computes, as plain LibTorch operations in the dtype of the arguments; tests pass
// float64, so that the reference's own rounding does not count. Gradients are LibTorch's autograd of the forward
// functions: no derivation of the kernels is repeated here. Only tests use this.
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

/// x: [rows, heads, head_dim]; cos and sin: [rows, head_dim / 2]. The two halves of a head are the two coordinates.
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
/// Of the sum of the losses.
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
