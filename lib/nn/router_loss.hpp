// The load-balancing loss of mixtures of experts. It is a product of two means, over all sparse layers and all tokens
// of the global batch at once, so it is computed from sums: every layer and micro-batch adds its RouterLoad, and the
// gradient needs the whole sum. Counts and probabilities are sums over tokens, so any number of ranks gives the same.
// Source: Switch Transformer, arXiv:2101.03961, equations 4-6; transformers load_balancing_loss_func.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/nn/expert_ops.hpp"

namespace plumb {

/// Sums over the tokens of a layer, of a micro-batch, or of a global batch and all of its sparse layers.
struct RouterLoad {
  int64_t num_tokens = 0;             // tokens times sparse layers
  std::vector<int64_t> num_chosen_E;  // how often each expert was chosen
  std::vector<double> probability_E;  // sum of its probabilities
};

/// One layer's; its sums are in the order of tokens.
RouterLoad router_load(const Routing& routing);

/// E sum_e (num_chosen_e / N) (probability_e / N): C where all experts have equal shares, more otherwise. 0 without
/// tokens.
double router_loss(const RouterLoad& load);

/// The gradient of coefficient * router_loss with respect to probability_E: what ExpertOps::route_backward takes. The
/// counts have no gradient.
std::vector<double> router_loss_gradient(std::span<const int64_t> num_chosen_E, int64_t num_tokens, double coefficient);

}  // namespace plumb
