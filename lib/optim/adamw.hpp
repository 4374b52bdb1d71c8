// AdamW on a flat span of float32. Source: Loshchilov and Hutter, arXiv:1711.05101, in the order of torch.optim.AdamW.
#pragma once

#include <cstdint>
#include <span>

namespace plumb {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
};

/// All spans have one length. step counts from 1. Gradients are multiplied by gradient_scale as they are read.
void adamw_update(std::span<float> parameters, std::span<const float> gradients, std::span<float> moments1,
                  std::span<float> moments2, const AdamWOptions& options, double learning_rate, int64_t step,
                  double gradient_scale);

}  // namespace plumb
