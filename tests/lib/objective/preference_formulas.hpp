// The losses of preference_loss.hpp as their papers and TRL write them, as LibTorch operations on [pairs] in float64:
// no derivative is written down, autograd finds it.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/sort.h>

#include <cmath>
#include <stdexcept>

#include "lib/objective/preference_loss.hpp"

namespace plumb {

struct PairTensors {
  at::Tensor chosen, rejected, reference_chosen, reference_rejected, chosen_tokens, rejected_tokens;
};

inline at::Tensor plain_score(const DpoOptions& options, const at::Tensor& log_ratio) {
  const double alpha = options.f_alpha_divergence_coef;
  switch (options.f_divergence) {
    case FDivergence::kReverseKl:
      return log_ratio;
    case FDivergence::kForwardKl:
      return 1 - (-log_ratio).exp();
    case FDivergence::kJsDivergence:
      return (2 * log_ratio.exp() / (log_ratio.exp() + 1)).log();
    case FDivergence::kAlphaDivergence:
      return ((log_ratio * (alpha - 1)).exp() - 1) / (alpha - 1);
  }
  throw std::logic_error("no such divergence");
}

/// One loss of the mix, without its weight; not sft.
inline at::Tensor plain_losses(const DpoOptions& options, PreferenceLoss loss, const PairTensors& pair) {
  const double beta = options.beta, e = options.label_smoothing;
  const auto ls = [](const at::Tensor& x) { return at::log_sigmoid(x); };
  const auto sigma = [](const at::Tensor& x) { return at::sigmoid(x); };
  const auto sorted = [](const at::Tensor& x) { return std::get<0>(at::sort(x, true, 0, false)); };
  const at::Tensor c = pair.chosen - pair.reference_chosen, r = pair.rejected - pair.reference_rejected;
  const at::Tensor sc = plain_score(options, c), sr = plain_score(options, r);
  const at::Tensor z = beta * (sc - sr);
  const at::Tensor mean = sc / pair.chosen_tokens - sr / pair.rejected_tokens;
  switch (loss) {
    case PreferenceLoss::kSigmoid:
      return -(1 - e) * ls(z) - e * ls(-z);
    case PreferenceLoss::kHinge:
      return at::relu(1 - z);
    case PreferenceLoss::kIpo:
      return (mean - 1 / (2 * beta)).pow(2);
    case PreferenceLoss::kExoPair:
      return sigma(z) * (ls(z) - std::log(1 - e)) + sigma(-z) * (ls(-z) - std::log(e));
    case PreferenceLoss::kNcaPair:
      return -ls(beta * c) - 0.5 * ls(-beta * c) - 0.5 * ls(-beta * r);
    case PreferenceLoss::kRobust:
      return (-(1 - e) * ls(z) + e * ls(-z)) / (1 - 2 * e);
    case PreferenceLoss::kBcoPair:
      return -ls(beta * c) - ls(-beta * r);
    case PreferenceLoss::kSppoHard:
      return (c - 0.5 / beta).pow(2) + (r + 0.5 / beta).pow(2);
    case PreferenceLoss::kAot: {
      const at::Tensor delta =
          beta * (sorted(pair.chosen - pair.rejected) - sorted(pair.reference_chosen - pair.reference_rejected));
      return -(1 - e) * ls(delta) - e * ls(-delta);
    }
    case PreferenceLoss::kAotUnpaired: {
      const at::Tensor delta = beta * (sorted(c) - sorted(r));
      return -(1 - e) * ls(delta) - e * ls(-delta);
    }
    case PreferenceLoss::kApoZero:
      return 1 - sigma(beta * c) + sigma(beta * r);
    case PreferenceLoss::kApoDown:
      return sigma(beta * c) + 1 - sigma(beta * (c - r));
    case PreferenceLoss::kDiscopop: {
      const at::Tensor share = sigma(z / options.discopop_tau);
      return -ls(z) * (1 - share) + (-z).exp() * share;
    }
    case PreferenceLoss::kSigmoidNorm:
      return -ls(beta * mean);
    case PreferenceLoss::kSft:
      break;
  }
  throw std::logic_error("a loss of tokens, not of pairs");
}

}  // namespace plumb
