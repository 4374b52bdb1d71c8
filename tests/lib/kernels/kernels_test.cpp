#include "lib/kernels/kernels.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lib/kernels/reference.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

TYPED_TEST_SUITE(Kernels, ElementTypes);

/// Sixteen lanes each add dim / 16 terms in turn, then four folds and a handful of operations; every one rounds once.
double sum_error(int64_t dim) { return (static_cast<double>(dim) / 16 + 12) * kFloatRoundoff; }

TEST(KernelChoice, IsTheBestCopyThisProcessorRuns) {
  const KernelCopy best = copies().back();
  EXPECT_EQ(activation_kernels<float>().rms_norm, best.of_float->rms_norm);
  EXPECT_EQ(activation_kernels<BFloat16>().rms_norm, best.of_bfloat16->rms_norm);
  EXPECT_EQ(float_kernels().adamw, best.plain->adamw);
}

TYPED_TEST(Kernels, RmsNormEqualsTheReference) {
  using T = TypeParam;
  constexpr double kEpsilon = 1e-5;
  for (int64_t rows : kRowCounts)
    for (int64_t dim : kDims) {
      const at::Tensor x = this->randn({rows, dim}), weight = this->randn({dim}), residual = this->randn({rows, dim});
      const at::Tensor total = (x.to(at::kFloat) + residual.to(at::kFloat)).to(this->kDtype);
      this->for_each_copy([&](const auto& kernels) {
        const at::Tensor y = at::empty_like(x), sum = at::empty_like(x), rstd = floats({rows}),
                         again = at::empty_like(x);
        for (const bool has_residual : {false, true}) {
          const float offset = has_residual ? 1.0f : 0.0f;
          const NormWeight<T> norm = {data_of<T>(weight), nullptr, offset};
          const at::Tensor& normed = has_residual ? total : x;
          const at::Tensor expected = reference::rms_norm(normed.to(at::kDouble), weight.to(at::kDouble) + offset,
                                                          static_cast<float>(kEpsilon));
          kernels.rms_norm(data_of<T>(x), has_residual ? data_of<T>(residual) : nullptr,
                           has_residual ? data_of<T>(sum) : nullptr, norm, data_of<T>(y), data_of<float>(rstd), rows,
                           dim, static_cast<float>(kEpsilon));
          EXPECT_LE(relative_error(y, expected), sum_error(dim) + this->kStored) << rows << " x " << dim;
          EXPECT_TRUE(!has_residual || same_bits(sum, total)) << rows << " x " << dim;
          kernels.recompute_rms_norm(data_of<T>(normed), data_of<float>(rstd), norm, data_of<T>(again), rows, dim);
          EXPECT_TRUE(same_bits(again, y)) << rows << " x " << dim;
        }
      });
    }
}

TYPED_TEST(Kernels, RmsNormBackwardEqualsTheReference) {
  using T = TypeParam;
  constexpr double kEpsilon = 1e-5;
  for (int64_t rows : kRowCounts)
    for (int64_t dim : kDims) {
      const at::Tensor x = this->randn({rows, dim}), weight = this->randn({dim}), dy = this->randn({rows, dim}),
                       carry = this->randn({rows, dim}), start = at::randn({dim});
      const auto expected = reference::rms_norm_backward(dy.to(at::kDouble), x.to(at::kDouble), weight.to(at::kDouble),
                                                         static_cast<float>(kEpsilon));
      const at::Tensor exact_rstd = (x.to(at::kDouble).square().mean(1) + kEpsilon).rsqrt();
      const at::Tensor rstd = exact_rstd.to(at::kFloat);
      // the two terms of dx may cancel: their size, not that of what is left, bounds the rounding
      const at::Tensor terms = (dy.to(at::kDouble) * weight.to(at::kDouble)).abs().amax(1, true) *
                               (1 + x.to(at::kDouble).abs().amax(1, true) * exact_rstd.unsqueeze(1)).square() *
                               exact_rstd.unsqueeze(1);
      const at::Tensor dweight_terms =
          start.abs().to(at::kDouble) + (dy.to(at::kDouble) * x.to(at::kDouble)).abs().sum(0) * exact_rstd.max();
      this->for_each_copy([&](const auto& kernels) {
        for (const bool has_carry : {false, true})
          for (const bool is_in_place : {false, true}) {
            const at::Tensor expected_dx = has_carry ? expected.dx + carry.to(at::kDouble) : expected.dx;
            // in place of the carry as for a block's residual, or of dy as for the norms of heads
            const at::Tensor dy_copy = dy.clone(), carry_copy = carry.clone(), dweight = start.clone();
            const at::Tensor dx = !is_in_place ? at::empty_like(x) : has_carry ? carry_copy : dy_copy;
            const NormWeight<T> norm = {data_of<T>(weight), nullptr, 0};
            kernels.rms_norm_backward(data_of<T>(dy_copy), data_of<T>(x), data_of<float>(rstd), norm,
                                      has_carry ? data_of<T>(carry_copy) : nullptr, data_of<T>(dx),
                                      data_of<float>(dweight), rows, dim);
            EXPECT_LE(error_of(dx, expected_dx, terms + expected_dx.abs()), sum_error(dim) + this->kStored)
                << rows << " x " << dim;
            EXPECT_LE(error_of(dweight, expected.dweight + start, dweight_terms), sum_error(16 * rows))
                << rows << " x " << dim;
          }
      });
    }
}

TYPED_TEST(Kernels, RopeEqualsTheReferenceAndTouchesNothingElse) {
  using T = TypeParam;
  for (int64_t rows : kRowCounts)
    for (int64_t heads : {1, 3})
      for (int64_t head_dim : {2, 6, 16, 34, 64, 80}) {
        const int64_t columns = heads * head_dim + 7;
        const at::Tensor x = this->randn({rows, columns});
        const at::Tensor angles = at::rand({rows, head_dim / 2}) * 100;
        const at::Tensor positions = at::arange(rows - 1, -1, -1, at::TensorOptions().dtype(at::kInt));  // not in order
        const at::Tensor cos = angles.cos(), sin = angles.sin();
        const at::Tensor rotated = x.narrow(1, 0, heads * head_dim).reshape({rows, heads, head_dim}).to(at::kDouble);
        const at::Tensor expected =
            reference::rope(rotated, cos.flip(0).to(at::kDouble), sin.flip(0).to(at::kDouble)).flatten(1);
        this->for_each_copy([&](const auto& kernels) {
          const at::Tensor y = x.clone();
          const RopeRows<T> turning = {data_of<T>(y), columns, data_of<int32_t>(positions), rows, heads, head_dim,
                                       head_dim,      false};
          kernels.rope(turning, data_of<float>(cos), data_of<float>(sin), 1.0f);
          const at::Tensor turned = y.narrow(1, 0, heads * head_dim);
          // a difference of two products, each rounded, of coordinates that one head shares
          const at::Tensor lengths = rotated.norm(2, {2}, true).expand_as(rotated).flatten(1);
          EXPECT_LE(error_of(turned, expected, lengths), 3 * kFloatRoundoff + this->kStored)
              << heads << " x " << head_dim;
          EXPECT_TRUE(
              same_bits(y.narrow(1, heads * head_dim, 7).contiguous(), x.narrow(1, heads * head_dim, 7).contiguous()));
          kernels.rope(turning, data_of<float>(cos), data_of<float>(sin), -1.0f);
          EXPECT_LE(error_of(turned, rotated.flatten(1), lengths), 8 * kFloatRoundoff + 3 * this->kStored)
              << "backwards, with cos^2 + sin^2 = 1 to two roundings: " << heads << " x " << head_dim;
        });
      }
}

// exp to two units in the last place, which are four roundoffs, then six operations.
constexpr double kSwigluError = 10 * kFloatRoundoff;

TYPED_TEST(Kernels, SwigluEqualsTheReference) {
  using T = TypeParam;
  for (int64_t rows : kRowCounts)
    for (int64_t dim : kDims) {
      const at::Tensor gate_up = (this->randn({rows, 2 * dim}) * 4).to(this->kDtype), dy = this->randn({rows, dim});
      const at::Tensor expected = reference::swiglu(gate_up.to(at::kDouble));
      const at::Tensor expected_gradient = reference::swiglu_backward(dy.to(at::kDouble), gate_up.to(at::kDouble));
      // the gate's derivative is a sum of two terms that may cancel
      const at::Tensor magnitude =
          expected_gradient.abs() + at::cat({(dy * gate_up.narrow(1, dim, dim)).abs(), dy * 0}, 1);
      this->for_each_copy([&](const auto& kernels) {
        const at::Tensor y = at::empty_like(dy), y_again = at::empty_like(dy), gradient = gate_up.clone();
        kernels.swiglu.forward(data_of<T>(gate_up), data_of<T>(y), rows, dim);
        EXPECT_LE(relative_error(y, expected), kSwigluError + this->kStored) << rows << " x " << dim;
        kernels.swiglu.backward(data_of<T>(dy), data_of<T>(gradient), data_of<T>(gradient), data_of<T>(y_again), rows,
                                dim);
        EXPECT_LE(error_of(gradient, expected_gradient, magnitude), kSwigluError + this->kStored)
            << rows << " x " << dim;
        EXPECT_TRUE(same_bits(y_again, y));
      });
    }
}

TYPED_TEST(Kernels, SwigluIsRightAtTheEndsOfTheRange) {
  using T = TypeParam;
  const at::Tensor gates =
      at::tensor({-1e30f, -1000.f, -100.f, -88.f, -30.f, -1e-30f, 0.f, 1e-30f, 30.f, 88.f, 100.f, 1e30f})
          .to(this->kDtype);
  const int64_t n = gates.numel();
  const at::Tensor gate_up = at::cat({gates, at::ones({n}).to(this->kDtype)}).view({1, 2 * n});
  const at::Tensor expected = reference::swiglu(gate_up.to(at::kDouble));
  this->for_each_copy([&](const auto& kernels) {
    const at::Tensor y = at::empty_like(gates);
    kernels.swiglu.forward(data_of<T>(gate_up), data_of<T>(y), 1, n);
    // exp stops at 88, so what should be zero is at most the gate times e^-88
    EXPECT_LE(error_of(y, expected[0], gates.to(at::kDouble).abs() + 1e-45), kSwigluError + this->kStored);
    EXPECT_LE(y.narrow(0, 1, 3).abs().max().template item<float>(), 1e-34f);
    at::Tensor with_nan = gate_up.clone();
    with_nan[0][2] = std::nan("");
    kernels.swiglu.forward(data_of<T>(with_nan), data_of<T>(y), 1, n);
    EXPECT_TRUE(y[2].isnan().template item<bool>());
    EXPECT_EQ(y.isnan().sum().template item<int64_t>(), 1);
  });
}

TYPED_TEST(Kernels, ARowDoesNotDependOnTheRowsBesideIt) {
  using T = TypeParam;
  constexpr int64_t kRows = 5, kDim = 67;
  const at::Tensor x = this->randn({kRows, kDim}), weight = this->randn({kDim}),
                   gate_up = this->randn({kRows, 2 * kDim});
  this->for_each_copy([&](const auto& kernels) {
    const at::Tensor y = at::empty_like(x), rstd = floats({kRows}), alone = at::empty_like(weight),
                     rstd_alone = floats({1});
    kernels.rms_norm(data_of<T>(x), nullptr, nullptr, {data_of<T>(weight), nullptr, 0}, data_of<T>(y),
                     data_of<float>(rstd), kRows, kDim, 1e-5f);
    for (int64_t row = 0; row < kRows; ++row) {
      kernels.rms_norm(data_of<T>(x) + row * kDim, nullptr, nullptr, {data_of<T>(weight), nullptr, 0},
                       data_of<T>(alone), data_of<float>(rstd_alone), 1, kDim, 1e-5f);
      EXPECT_TRUE(same_bits(alone, y[row]));
      EXPECT_EQ(rstd_alone.item<float>(), rstd[row].template item<float>());
    }
    kernels.swiglu.forward(data_of<T>(gate_up), data_of<T>(y), kRows, kDim);
    for (int64_t row = 0; row < kRows; ++row) {
      kernels.swiglu.forward(data_of<T>(gate_up) + row * 2 * kDim, data_of<T>(alone), 1, kDim);
      EXPECT_TRUE(same_bits(alone, y[row]));
    }
  });
}

}  // namespace
}  // namespace plumb
