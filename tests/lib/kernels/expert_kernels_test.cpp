// The kernels of mixtures of experts, each copy against plain LibTorch.
#include "lib/kernels/expert_kernels.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sigmoid.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {

#define PLUMB_DECLARE_EXPERTS(isa)                             \
  namespace isa {                                              \
  extern const ExpertKernels<float> kFloatExpertKernels;       \
  extern const ExpertKernels<BFloat16> kBFloat16ExpertKernels; \
  }
PLUMB_DECLARE_EXPERTS(generic)
#ifdef PLUMB_HAS_LEVELS
PLUMB_DECLARE_EXPERTS(x86_64_v3)
PLUMB_DECLARE_EXPERTS(x86_64_v4)
#endif

namespace {

template <class T>
class ExpertKernelsTest : public Kernels<T> {
 protected:
  /// The copies that this processor can run.
  static std::vector<const ExpertKernels<T>*> expert_copies() {
    const auto of_type = [](const ExpertKernels<float>& of_float, const ExpertKernels<BFloat16>& of_bfloat16) {
      if constexpr (std::is_same_v<T, float>)
        return &of_float;
      else
        return &of_bfloat16;
    };
    std::vector<const ExpertKernels<T>*> found = {
        of_type(generic::kFloatExpertKernels, generic::kBFloat16ExpertKernels)};
#ifdef PLUMB_HAS_LEVELS
    if (copies().size() > 1)
      found.push_back(of_type(x86_64_v3::kFloatExpertKernels, x86_64_v3::kBFloat16ExpertKernels));
    if (copies().size() > 2)
      found.push_back(of_type(x86_64_v4::kFloatExpertKernels, x86_64_v4::kBFloat16ExpertKernels));
#endif
    return found;
  }
};
TYPED_TEST_SUITE(ExpertKernelsTest, ElementTypes);

TYPED_TEST(ExpertKernelsTest, WeightedSumAndDotEqualTheReference) {
  using T = TypeParam;
  for (const int64_t dim : kDims) {
    const at::Tensor x = this->randn({3, dim}), y = at::empty_like(x[0]), weights = at::randn({3});
    const T* const rows[] = {data_of<T>(x) + 2 * dim, data_of<T>(x), data_of<T>(x) + dim};
    const at::Tensor terms = x.to(at::kDouble).roll(1, 0) * weights.to(at::kDouble).unsqueeze(1);
    const at::Tensor magnitude = terms.abs().sum(0);
    const at::Tensor exact = x.to(at::kDouble);
    for (const ExpertKernels<T>* kernels : this->expert_copies()) {
      kernels->weighted_sum(rows, data_of<float>(weights), 3, data_of<T>(y), dim);
      EXPECT_LE(error_of(y, terms.sum(0), magnitude), 4 * kFloatRoundoff + this->kStored);
      kernels->weighted_sum(rows, data_of<float>(weights), 0, data_of<T>(y), dim);
      EXPECT_EQ(y.abs().max().template item<float>(), 0);
      const double dot = (exact[0] * exact[1]).sum().template item<double>(),
                   size = (exact[0] * exact[1]).abs().sum().template item<double>();
      EXPECT_NEAR(kernels->dot(data_of<T>(x), data_of<T>(x) + dim, dim), dot, 40 * kFloatRoundoff * size);
    }
  }
}

at::Tensor clamped(const at::Tensor& gate_up, ClampedSwiglu shape) {
  const double limit = shape.limit;
  const std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
  const at::Tensor gate = at::clamp_max(halves[0], limit);
  return (at::clamp(halves[1], -limit, limit) + 1) * gate * at::sigmoid(gate * static_cast<double>(shape.alpha));
}

TYPED_TEST(ExpertKernelsTest, ClampedSwigluEqualsTheReference) {
  using T = TypeParam;
  const ClampedSwiglu shape = {2, 1.702f};
  for (const int64_t rows : kRowCounts)
    for (const int64_t dim : kDims) {
      at::Tensor gate_up = (this->randn({rows, 2 * dim}) * 3).to(this->kDtype);
      gate_up[0][0] = 2;  // at the limit, without a gradient
      gate_up[0][dim] = -2;
      const at::Tensor dy = this->randn({rows, dim});
      const at::AutoGradMode with_graph(true);
      const at::Tensor leaf = gate_up.to(at::kDouble).set_requires_grad(true);
      const at::Tensor expected = clamped(leaf, shape);
      expected.backward(dy.to(at::kDouble));
      for (const ExpertKernels<T>* kernels : this->expert_copies()) {
        const at::Tensor y = at::empty_like(dy), y_again = at::empty_like(dy), gradient = gate_up.clone();
        kernels->clamped_swiglu(data_of<T>(gate_up), data_of<T>(y), rows, dim, shape);
        // up + 1 may cancel, and so may the two terms of the gate's derivative
        EXPECT_LE(error_of(y, expected.detach(), expected.detach().abs() + 2), 20 * kFloatRoundoff + this->kStored);
        kernels->clamped_swiglu_backward(data_of<T>(dy), data_of<T>(gradient), data_of<T>(gradient),
                                         data_of<T>(y_again), rows, dim, shape);
        const at::Tensor magnitude = leaf.grad().abs() + dy.to(at::kDouble).abs().repeat({1, 2}) * 3;
        EXPECT_LE(error_of(gradient, leaf.grad(), magnitude), 20 * kFloatRoundoff + this->kStored);
        EXPECT_TRUE(same_bits(y_again, y));
      }
    }
}

TYPED_TEST(ExpertKernelsTest, ClampedSwigluKeepsNaN) {
  using T = TypeParam;
  const at::Tensor gate_up = this->randn({1, 40}), y = this->randn({1, 20});
  gate_up[0][3] = std::nan("");
  gate_up[0][24] = std::nan("");
  for (const ExpertKernels<T>* kernels : this->expert_copies()) {
    kernels->clamped_swiglu(data_of<T>(gate_up), data_of<T>(y), 1, 20, {});
    EXPECT_TRUE(y[0][3].isnan().template item<bool>());
    EXPECT_TRUE(y[0][4].isnan().template item<bool>());
    EXPECT_EQ(y.isnan().sum().template item<int64_t>(), 2);
  }
}

}  // namespace
}  // namespace plumb
