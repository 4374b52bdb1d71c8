// Which expert computes which token, and what blocks of experts need beside matrix products, as functions on tensors
// with one table per kind of device, like TensorOps.
// Source: arXiv:1701.06538 (sparsely gated experts); transformers modeling_mixtral.py, modeling_qwen3_moe.py,
// modeling_gpt_oss.py.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "lib/kernels/expert_kernels.hpp"

namespace plumb {

// T = rows of activations, the first N of which are tokens and the others padding; E = experts; C = chosen experts of a
// token; D = hidden_size; F = intermediate size of an expert.

/// The router of a layer.
struct RouterConfig {
  int64_t num_experts = 0;
  int64_t num_chosen = 0;
  /// true: a token's weights are the softmax over the chosen logits; false: the chosen elements of the softmax over
  /// all.
  bool renormalizes = true;
  /// The weights are rounded to the dtype of the activations (Qwen, gpt-oss) instead of staying float32 (Mixtral).
  bool rounds_weights = true;
};

/// The experts of each token, in ascending order, and the tokens of each expert, in ascending order. Of equal logits
/// the one of the lower expert is chosen. Every token has C experts: nothing is dropped.
struct Routing {
  int64_t num_tokens = 0;
  at::Tensor probability_NE;       // float32: the softmax over all logits
  at::Tensor weight_NC;            // float32
  std::vector<int32_t> expert_NC;  // [N * C]
  std::vector<int32_t> row_NC;     // of this token among the rows of that expert
  std::vector<int64_t> begin_E;    // [E + 1]: those of expert e are begin_E[e] to begin_E[e + 1] of the next two
  std::vector<int32_t> token_A;    // [N * C]
  std::vector<int32_t> slot_A;     // [N * C]: place of the expert among those of the token

  int64_t num_rows(int64_t expert) const { return begin_E[expert + 1] - begin_E[expert]; }
};

/// Rows of all tokens, each times a weight.
struct WeightedRows {
  at::Tensor rows_TD;
  at::Tensor weight_T = {};  // float32; undefined: 1
};

struct ExpertOps {
  /// logits: [T, E], float32 or bfloat16. A NaN is chosen first, so that no loss is finite without it.
  Routing (*route)(const at::Tensor& logits_TE, const RouterConfig& router, int64_t num_tokens);
  /// The gradient of the logits, like them; rows that are no tokens are zero. weighted_NC: float32, the weight of each
  /// chosen expert times the gradient of that weight. dprobability_E: of the sum of each expert's probabilities over
  /// the tokens; empty: none.
  at::Tensor (*route_backward)(const Routing& routing, const RouterConfig& router, const at::Tensor& weighted_NC,
                               std::span<const double> dprobability_E, const at::Tensor& logits_like_TE);

  /// The rows of an expert, padded with zero rows to `num_rows`; times the token's weight if `is_weighted`.
  at::Tensor (*gather)(const Routing& routing, int64_t expert, const at::Tensor& x_TD, int64_t num_rows,
                       bool is_weighted);
  /// y = for each token, the sum of its rows of each expert in ascending order, times their weights if `is_weighted`,
  /// then of `more`, rounded once. Rows that are no tokens have only `more`.
  void (*combine)(const Routing& routing, std::span<const at::Tensor> rows_of_expert, bool is_weighted,
                  std::span<const WeightedRows> more, const at::Tensor& y_TD);
  /// x, each row times its weight, rounded once. weight: float32.
  at::Tensor (*scale_rows)(const at::Tensor& x_TD, const at::Tensor& weight_T);
  /// Dot products of the rows of a and b, float32 [R]. b may have a single row for all.
  at::Tensor (*row_dots)(const at::Tensor& a_RD, const at::Tensor& b_RD);

  /// Like TensorOps::swiglu and swiglu_backward.
  at::Tensor (*clamped_swiglu)(const at::Tensor& gate_up_RG, ClampedSwiglu shape);
  at::Tensor (*clamped_swiglu_backward)(const at::Tensor& dy_RF, const at::Tensor& gate_up_RG, ClampedSwiglu shape);
};

/// The table for the device of a tensor. Throws std::logic_error if this build has no kernels for it.
const ExpertOps& expert_ops_of(const at::Tensor& tensor);

}  // namespace plumb
