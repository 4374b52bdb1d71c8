// The sparse MLP as plain LibTorch operations, token by token and expert by expert, differentiated by autograd: the
// reference for experts.hpp and router_loss.hpp. Computes in the dtype of its arguments; tests pass float64. Used by
// tests only.
// Source: transformers modeling_mixtral.py, modeling_qwen2_moe.py, modeling_gpt_oss.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "lib/nn/experts.hpp"

namespace plumb::reference {

/// The router's logits of all rows, [T, E].
at::Tensor router_logits(const ExpertTensors& parameters, const at::Tensor& x_TD);

/// The experts of each token in ascending order, [tokens][C]; of equal logits the first. From these logits and without
/// a gradient, so that a test can route by the logits that it rounded.
std::vector<std::vector<int64_t>> choose_experts(const RouterConfig& router, const at::Tensor& logits_TE,
                                                 int64_t num_tokens);

/// Returns the output of the layer, [T, D].
at::Tensor experts(const ExpertConfig& config, const ExpertTensors& parameters, const at::Tensor& x_TD,
                   std::span<const std::vector<int64_t>> experts_of_token);

/// The load-balancing loss of one layer.
at::Tensor router_loss(const ExpertTensors& parameters, const at::Tensor& x_TD,
                       std::span<const std::vector<int64_t>> experts_of_token);

}  // namespace plumb::reference
