#include "lib/nn/head_product.hpp"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>

#include "lib/nn/matmul.hpp"

namespace plumb {

HeadProduct::HeadProduct(const HeadTensors& head, const at::Tensor& x_TD) : head_(head), x_TD_(x_TD) {
  const VocabularyAdapter& adapter = head.adapter;
  if (adapter.left_VR.defined()) dropped_TD_ = ops_of(x_TD).drop_out(x_TD, adapter.dropout);
  if (adapter.rows_ND.defined()) tokens_N_ = as_tensor(adapter.tokens).to(x_TD.device());
}

void HeadProduct::multiply(int64_t begin, double scale, const at::Tensor& products_CV) const {
  const int64_t rows = products_CV.size(0);
  const at::Tensor x = x_TD_.narrow(0, begin, rows);
  matmul_into(products_CV, x, head_.head_VD.t(), scale);
  const VocabularyAdapter& adapter = head_.adapter;
  if (adapter.left_VR.defined()) {
    const at::Tensor u_CR = product(dropped_TD_.narrow(0, begin, rows), adapter.right_RD.t());
    matmul_accumulate(products_CV, u_CR, adapter.left_VR.t(), scale * adapter.scaling);
  }
  if (!tokens_N_.defined()) return;
  at::Tensor of_rows = product(x, adapter.rows_ND.t());
  if (scale != 1) of_rows.mul_(scale);
  at::Tensor(products_CV).index_copy_(1, tokens_N_, of_rows);
}

void HeadProduct::backward(int64_t begin, const at::Tensor& dproducts_CV, const HeadTensors& gradients,
                           at::Tensor& head_scratch, const at::Tensor& dx_TD) {
  const int64_t rows = dproducts_CV.size(0);
  const bool is_first = begin == 0;
  const at::Tensor x = x_TD_.narrow(0, begin, rows), dx = dx_TD.narrow(0, begin, rows);
  const auto add_gradient = [&](at::Tensor gradient, const at::Tensor& a, const at::Tensor& b, double scale) {
    if (is_first) gradient.zero_();
    gradient.add_(product(a, b), scale);  // float32, whatever the factors are
  };
  const VocabularyAdapter& adapter = head_.adapter;
  at::Tensor drows_CN;
  if (tokens_N_.defined()) {  // these rows of the head itself have no part in the products
    drows_CN = at::index_select(dproducts_CV, 1, tokens_N_);
    at::Tensor(dproducts_CV).index_fill_(1, tokens_N_, 0);
    add_gradient(gradients.adapter.rows_ND, drows_CN.t(), x, 1);
  }
  matmul_into(dx, dproducts_CV, head_.head_VD);
  if (drows_CN.defined()) matmul_accumulate(dx, drows_CN, adapter.rows_ND);
  if (gradients.head_VD.defined())
    ops_of(x).add_head_gradient(dproducts_CV, x, is_first && !gradients.adds, gradients.head_VD, head_scratch);
  if (!adapter.left_VR.defined()) return;
  const at::Tensor dropped = dropped_TD_.narrow(0, begin, rows);
  const at::Tensor u_CR = product(dropped, adapter.right_RD.t());
  at::Tensor du_CR = product(dproducts_CV, adapter.left_VR).mul_(adapter.scaling);
  add_gradient(gradients.adapter.left_VR, dproducts_CV.t(), u_CR, adapter.scaling);
  add_gradient(gradients.adapter.right_RD, du_CR.t(), dropped, 1);
  if (adapter.dropout.rate == 0) return matmul_accumulate(dx, du_CR, adapter.right_RD);
  if (is_first) ddropped_TD_ = at::empty_like(dx_TD);
  matmul_into(ddropped_TD_.narrow(0, begin, rows), du_CR, adapter.right_RD);
}

void HeadProduct::finish_backward(const at::Tensor& dx_TD) const {
  if (ddropped_TD_.defined())
    at::Tensor(dx_TD).add_(ops_of(ddropped_TD_).drop_out(ddropped_TD_, head_.adapter.dropout));
}

void zero(const HeadTensors& gradients) {
  if (gradients.adds) return;
  for (const at::Tensor& gradient : {gradients.head_VD, gradients.norm_D, gradients.norm_bias_D})
    if (gradient.defined()) gradient.zero_();
  zero(gradients.adapter);
}

}  // namespace plumb
