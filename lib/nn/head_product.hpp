// The product of hidden states with the head and with its adapter, chunk by chunk, and its backward pass. The loss owns
// the logits between the two.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/nn/model_units.hpp"

namespace plumb {

class HeadProduct {
 public:
  /// x_TD: the normed hidden states. Both must outlive this.
  HeadProduct(const HeadTensors& head, const at::Tensor& x_TD);

  /// Writes scale * (products of the rows of x from `begin` on) into products_CV.
  void multiply(int64_t begin, double scale, const at::Tensor& products_CV) const;

  /// The gradients of these products: writes the rows of dx_TD, and adds to those of the head, which the chunk that
  /// begins at 0 overwrites. May change dproducts_CV. head_scratch: of TensorOps::add_head_gradient.
  void backward(int64_t begin, const at::Tensor& dproducts_CV, const HeadTensors& gradients, at::Tensor& head_scratch,
                const at::Tensor& dx_TD);

  /// Completes dx_TD after the last chunk.
  void finish_backward(const at::Tensor& dx_TD) const;

 private:
  const HeadTensors& head_;
  at::Tensor x_TD_;
  at::Tensor dropped_TD_;   // the low-rank term's input: x itself without dropout
  at::Tensor ddropped_TD_;  // its gradient; undefined without dropout
  at::Tensor tokens_N_;     // of trained rows
};

/// Zero gradients of the head: of a micro-batch without a loss.
void zero(const HeadTensors& gradients);

}  // namespace plumb
