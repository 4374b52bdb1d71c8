#include "lib/optim/adamw.hpp"

#include <cmath>

namespace plumb {

AdamWStep adamw_step(const AdamWOptions& options, double learning_rate, int64_t step, double gradient_scale) {
  const auto exponent = static_cast<double>(step);
  return {.learning_rate = static_cast<float>(learning_rate),
          .beta1 = static_cast<float>(options.beta1),
          .beta2 = static_cast<float>(options.beta2),
          .epsilon = static_cast<float>(options.epsilon),
          .weight_decay = static_cast<float>(options.weight_decay),
          .bias_correction1 = static_cast<float>(1.0 - std::pow(options.beta1, exponent)),
          .bias_correction2_sqrt = static_cast<float>(std::sqrt(1.0 - std::pow(options.beta2, exponent))),
          .gradient_scale = static_cast<float>(gradient_scale)};
}

void adamw_update(std::span<float> parameters, std::span<const float> gradients, std::span<float> moments1,
                  std::span<float> moments2, const AdamWStep& step) {
  float_kernels().adamw(parameters.data(), gradients.data(), moments1.data(), moments2.data(),
                        static_cast<int64_t>(parameters.size()), step);
}

}  // namespace plumb
