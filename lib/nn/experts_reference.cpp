#include "lib/nn/experts_reference.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <numeric>

#include "lib/kernels/reference.hpp"

namespace plumb::reference {

namespace {

at::Tensor with_bias(const at::Tensor& y, const at::Tensor& bias) { return bias.defined() ? y + bias : y; }

/// The bias of an expert; undefined if there are none.
at::Tensor row_of(const at::Tensor& biases, int64_t expert) { return biases.defined() ? biases[expert] : at::Tensor(); }

at::Tensor activate(const ExpertConfig& config, const at::Tensor& gate_up) {
  if (!config.clamp) return swiglu(gate_up);
  const double limit = config.clamp->limit;
  const std::vector<at::Tensor> halves =
      config.is_interleaved ? gate_up.unflatten(-1, {gate_up.size(-1) / 2, 2}).unbind(-1) : gate_up.chunk(2, -1);
  const at::Tensor gate = at::clamp_max(halves[0], limit), up = at::clamp(halves[1], -limit, limit);
  return (up + 1) * gate * at::sigmoid(gate * static_cast<double>(config.clamp->alpha));
}

at::Tensor expert(const ExpertConfig& config, const ExpertTensors& p, int64_t e, const at::Tensor& x_D) {
  const at::Tensor gate_up = with_bias(at::matmul(p.gate_up_EGD[e], x_D), row_of(p.gate_up_bias_EG, e));
  return with_bias(at::matmul(p.down_EDF[e], activate(config, gate_up)), row_of(p.down_bias_ED, e));
}

}  // namespace

at::Tensor router_logits(const ExpertTensors& p, const at::Tensor& x_TD) {
  return with_bias(at::matmul(x_TD, p.router_ED.t()), p.router_bias_E);
}

std::vector<std::vector<int64_t>> choose_experts(const RouterConfig& router, const at::Tensor& logits_TE,
                                                 int64_t num_tokens) {
  std::vector<std::vector<int64_t>> chosen;
  for (int64_t t = 0; t < num_tokens; ++t) {
    const at::Tensor row = logits_TE[t].detach().to(at::kDouble).contiguous();
    const double* z = row.const_data_ptr<double>();
    std::vector<int64_t> order(router.num_experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [z](int64_t a, int64_t b) { return z[a] > z[b]; });
    order.resize(router.num_chosen);
    std::sort(order.begin(), order.end());
    chosen.push_back(order);
  }
  return chosen;
}

at::Tensor experts(const ExpertConfig& config, const ExpertTensors& p, const at::Tensor& x_TD,
                   std::span<const std::vector<int64_t>> experts_of_token) {
  const at::Tensor probabilities = at::softmax(router_logits(p, x_TD), -1);
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < x_TD.size(0); ++t) {
    at::Tensor y = at::zeros_like(x_TD[t]), total = at::zeros({}, x_TD.options());
    if (t < std::ssize(experts_of_token)) {
      for (const int64_t e : experts_of_token[t]) total = total + probabilities[t][e];
      for (const int64_t e : experts_of_token[t]) {
        const at::Tensor weight = config.router.renormalizes ? probabilities[t][e] / total : probabilities[t][e];
        y = y + weight * expert(config, p, e, x_TD[t]);
      }
    }
    if (p.shared_router_1D.defined()) {
      const at::Tensor gate_up = at::matmul(p.shared_gate_up_UD, x_TD[t]);
      y = y + at::sigmoid(at::matmul(p.shared_router_1D[0], x_TD[t])) *
                  at::matmul(p.shared_down_DS, activate(config, gate_up));
    }
    rows.push_back(y);
  }
  return at::stack(rows);
}

at::Tensor router_loss(const ExpertTensors& p, const at::Tensor& x_TD,
                       std::span<const std::vector<int64_t>> experts_of_token) {
  const int64_t num_tokens = std::ssize(experts_of_token), num_experts = p.router_ED.size(0);
  const at::Tensor mean = at::softmax(router_logits(p, x_TD), -1).narrow(0, 0, num_tokens).mean(0);
  at::Tensor share = at::zeros({num_experts}, x_TD.options());
  for (const std::vector<int64_t>& chosen : experts_of_token)
    for (const int64_t e : chosen) share[e] += 1.0 / static_cast<double>(num_tokens);
  return (share * mean).sum() * num_experts;
}

}  // namespace plumb::reference
