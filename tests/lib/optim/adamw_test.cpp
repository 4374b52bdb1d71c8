#include "lib/optim/adamw.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <span>

namespace plumb {
namespace {

std::span<float> span_of(const at::Tensor& x) { return {x.data_ptr<float>(), static_cast<size_t>(x.numel())}; }

struct State {
  at::Tensor parameters, moments1, moments2;

  explicit State(const at::Tensor& start)
      : parameters(start.clone()), moments1(at::zeros_like(start)), moments2(at::zeros_like(start)) {}
};

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(AdamWUpdate, MatchesLibTorchOverTenSteps) {
  at::manual_seed(1);
  constexpr int64_t kCount = 1003;
  constexpr double kRate = 1e-2;
  for (const double weight_decay : {0.0, 0.1})
    for (const double gradient_scale : {1.0, 0.03}) {
      const at::Tensor start = at::randn({kCount});
      State got(start), expected(start);
      const AdamWOptions options{.weight_decay = weight_decay};
      for (int64_t step = 1; step <= 10; ++step) {
        const at::Tensor gradients = at::randn({kCount});
        const double rate = kRate * static_cast<double>(step) / 10;
        adamw_update(span_of(got.parameters), span_of(gradients), span_of(got.moments1), span_of(got.moments2),
                     adamw_step(options, rate, step, gradient_scale));
        at::_fused_adamw_({expected.parameters}, {gradients * gradient_scale}, {expected.moments1}, {expected.moments2},
                          {}, {at::full({}, static_cast<float>(step))}, rate, options.beta1, options.beta2,
                          weight_decay, options.epsilon, false, false);
        // per step, each side rounds an update of at most about the rate a dozen times, and a parameter of up to 4
        // twice
        const auto steps = static_cast<double>(step);
        EXPECT_LE(distance(got.parameters, expected.parameters), steps * 2 * (kRate * 12 + 2 * 4) * 0x1p-24) << step;
        EXPECT_LE(distance(got.moments1, expected.moments1), steps * 2 * 0x1p-24) << step;
        // the kernel gets beta2 rounded to float, so (1 - beta2) times a squared gradient of up to 16 is off by 2^-25
        EXPECT_LE(distance(got.moments2, expected.moments2), steps * 16 * 0x1p-25) << step;
      }
      EXPECT_GT(distance(got.parameters, start), 0.01) << "ten steps of about the rate";
    }
}

}  // namespace
}  // namespace plumb
