#include "lib/kernels/reference.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/silu.h>

namespace plumb::reference {

static at::Tensor as_leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return x * at::rsqrt((x * x).mean(-1, true) + epsilon) * weight;
}

RmsNormGradients rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                   double epsilon) {
  const at::AutoGradMode with_graph(true);
  const at::Tensor x_leaf = as_leaf(x), weight_leaf = as_leaf(weight);
  rms_norm(x_leaf, weight_leaf, epsilon).backward(dy);
  return {x_leaf.grad(), weight_leaf.grad()};
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);
  return at::cat({halves[0] * c - halves[1] * s, halves[1] * c + halves[0] * s}, -1);
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const auto halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

at::Tensor swiglu_backward(const at::Tensor& dy, const at::Tensor& gate_up) {
  const at::AutoGradMode with_graph(true);
  const at::Tensor leaf = as_leaf(gate_up);
  swiglu(leaf).backward(dy);
  return leaf.grad();
}

CrossEntropy cross_entropy(const at::Tensor& logits, const at::Tensor& labels, TokenLoss token_loss) {
  const at::Tensor log_probabilities = at::log_softmax(logits, -1);
  CrossEntropy result;
  result.log_probability = log_probabilities.gather(1, labels.unsqueeze(1)).squeeze(1);
  result.loss = -result.log_probability;
  if (token_loss == TokenLoss::kDft) result.loss = result.log_probability.detach().exp() * result.loss;
  result.entropy = -(log_probabilities.exp() * log_probabilities).sum(-1);
  result.is_correct = logits.argmax(-1).eq(labels);
  result.mean_logit = logits.mean(-1);
  result.log_sum_of_squares = (log_probabilities * 2).exp().sum(-1).log();
  return result;
}

at::Tensor cross_entropy_backward(const at::Tensor& logits, const at::Tensor& labels, TokenLoss token_loss) {
  const at::AutoGradMode with_graph(true);
  const at::Tensor leaf = as_leaf(logits);
  cross_entropy(leaf, labels, token_loss).loss.sum().backward();
  return leaf.grad();
}

AdamWState adamw(const AdamWState& before, const at::Tensor& gradient, const AdamWStep& step) {
  const double beta1 = step.beta1, beta2 = step.beta2, rate = step.learning_rate;
  const at::Tensor g = gradient * static_cast<double>(step.gradient_scale);
  AdamWState after;
  after.moment1 = before.moment1 * beta1 + g * (1 - beta1);
  after.moment2 = before.moment2 * beta2 + g * g * (1 - beta2);
  const at::Tensor direction =
      (after.moment1 / static_cast<double>(step.bias_correction1)) /
      (after.moment2.sqrt() / static_cast<double>(step.bias_correction2_sqrt) + static_cast<double>(step.epsilon));
  after.parameter = before.parameter * (1 - rate * static_cast<double>(step.weight_decay)) - direction * rate;
  return after;
}

double relative_distance(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor exact = expected.to(at::kDouble);
  return ((got.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

}  // namespace plumb::reference
