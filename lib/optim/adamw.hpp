// AdamW on a flat span of float32. Source: Loshchilov and Hutter, arXiv:1711.05101, in the order of torch.optim.AdamW.
#pragma once

#include <cstdint>
#include <span>

#include "lib/kernels/kernels.hpp"

namespace plumb {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// Elements [begin, end) of a span, and whether weight decay applies to them.
struct DecayRun {
  int64_t begin;
  int64_t end;
  bool is_decayed;
};

/// The kernel's parameters for a step; steps count from 1.
AdamWStep adamw_step(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale);

/// All spans have the same length. Gradients are multiplied by step.gradient_scale as they are read.
void adamw_update(std::span<float> parameters, std::span<const float> gradients, std::span<float> moments1,
                  std::span<float> moments2, const AdamWStep& step);

}  // namespace plumb
