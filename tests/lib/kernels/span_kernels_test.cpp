// The kernels on flat spans: conversions, sums and the optimizer's update.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn_like.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/kernels/kernels.hpp"
#include "lib/kernels/reference.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

template <class T>
class SpanKernels : public Kernels<T> {};
TYPED_TEST_SUITE(SpanKernels, ElementTypes);

/// Float32 with every exponent and sign: random bits, then the values at which rounding turns.
at::Tensor all_kinds_of_floats() {
  const at::Tensor bits = at::randint(std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max(),
                                      {100003}, at::TensorOptions().dtype(at::kInt));
  const float special[] = {0.f,
                           -0.f,
                           std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(),
                           std::numeric_limits<float>::max(),
                           std::numeric_limits<float>::lowest(),
                           std::numeric_limits<float>::denorm_min(),
                           std::numeric_limits<float>::min(),
                           1 + 0x1p-8f,
                           1 + 3 * 0x1p-8f,
                           1 + 0x1p-8f + 0x1p-23f};
  return at::cat({bits.view(at::kFloat), at::tensor(at::ArrayRef<float>(special))});
}

TYPED_TEST(SpanKernels, ConversionsAreThoseOfLibTorchToTheBit) {
  using T = TypeParam;
  const at::Tensor x = all_kinds_of_floats(), start = at::randn_like(x);
  const at::Tensor narrow = x.to(this->kDtype), is_nan = x.isnan();
  this->for_each_copy([&](const auto& kernels) {
    const at::Tensor got = at::empty_like(narrow), wide = at::empty_like(x), sum = start.clone();
    kernels.from_float(data_of<float>(x), data_of<T>(got), x.numel());
    EXPECT_TRUE(got.isnan().equal(is_nan));
    EXPECT_TRUE(same_bits(got.masked_fill(is_nan, 0), narrow.masked_fill(is_nan, 0)));
    kernels.to_float(data_of<T>(narrow), data_of<float>(wide), x.numel());
    EXPECT_TRUE(same_bits(wide, narrow.to(at::kFloat)));
    kernels.add_to_float(data_of<T>(narrow), data_of<float>(sum), x.numel());
    const at::Tensor expected = start + narrow.to(at::kFloat);
    EXPECT_TRUE(sum.isnan().equal(expected.isnan()));
    EXPECT_TRUE(same_bits(sum.nan_to_num(0), expected.nan_to_num(0)));
  });
}

TYPED_TEST(SpanKernels, ConversionsGiveTheSameBitsWhereverTheSpanIsSplit) {
  using T = TypeParam;
  constexpr int64_t kCount = 1000;
  const at::Tensor x = at::randn({kCount}), start = at::randn({kCount}), narrow = x.to(this->kDtype);
  this->for_each_copy([&](const auto& kernels) {
    const at::Tensor whole = start.clone();
    kernels.add_to_float(data_of<T>(narrow), data_of<float>(whole), kCount);
    for (int64_t split = 0; split <= kCount; split += 64) {
      const at::Tensor got = at::empty_like(narrow), sum = start.clone();
      for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, kCount - split)}) {
        kernels.from_float(data_of<float>(x) + begin, data_of<T>(got) + begin, count);
        kernels.add_to_float(data_of<T>(narrow) + begin, data_of<float>(sum) + begin, count);
      }
      EXPECT_TRUE(same_bits(got, narrow)) << split;
      EXPECT_TRUE(same_bits(sum, whole)) << split;
    }
  });
}

constexpr AdamWStep kStep = {.learning_rate = 1e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.999f,
                             .epsilon = 1e-2f,  // large enough to show where it is added

                             .weight_decay = 0.1f,
                             .bias_correction1 = 1 - 0.9f * 0.9f * 0.9f,
                             .bias_correction2_sqrt = 0.0547448f,
                             .gradient_scale = 0.37f};

/// Parameters, gradients and moments as they are after some steps.
struct AdamWCase {
  at::Tensor gradient;
  reference::AdamWState state;

  explicit AdamWCase(int64_t n) : gradient(at::randn({n})) {
    state = {at::randn({n}), at::randn({n}) * 0.1, at::randn({n}).square() * 0.01};
  }
  reference::AdamWState clone() const {
    return {state.parameter.clone(), state.moment1.clone(), state.moment2.clone()};
  }
};

void run_adamw(const FloatKernels& kernels, const reference::AdamWState& state, const at::Tensor& gradient,
               int64_t begin, int64_t count, const AdamWStep& step) {
  kernels.adamw(data_of<float>(state.parameter) + begin, data_of<float>(gradient) + begin,
                data_of<float>(state.moment1) + begin, data_of<float>(state.moment2) + begin, count, step);
}

class FloatSpanKernels : public testing::TestWithParam<KernelCopy> {
 protected:
  void SetUp() override { at::manual_seed(1); }
};
INSTANTIATE_TEST_SUITE_P(Copies, FloatSpanKernels, testing::ValuesIn(copies()),
                         [](const auto& named) { return std::string(named.param.name); });

TEST_P(FloatSpanKernels, AdamWEqualsTheReference) {
  for (const int64_t n : {1, 15, 16, 17, 64, 1000}) {
    const AdamWCase given(n);
    const auto wide = [](const at::Tensor& x) { return x.to(at::kDouble); };
    const reference::AdamWState expected =
        reference::adamw({wide(given.state.parameter), wide(given.state.moment1), wide(given.state.moment2)},
                         wide(given.gradient), kStep);
    const reference::AdamWState got = given.clone();
    run_adamw(*GetParam().plain, got, given.gradient, 0, n, kStep);
    // the first moment is a sum of terms of either sign; the second of squares
    EXPECT_LE(error_of(got.moment1, expected.moment1, wide(given.state.moment1).abs() + wide(given.gradient).abs()),
              4 * kFloatRoundoff);
    EXPECT_LE(relative_error(got.moment2, expected.moment2), 6 * kFloatRoundoff);
    // decay and subtraction round the parameter; ten operations round its change
    const at::Tensor change = (expected.parameter - given.state.parameter).abs() + 0.1 * kStep.learning_rate;
    const at::Tensor magnitude = expected.parameter.abs() * 3 + change * 16;
    EXPECT_LE(error_of(got.parameter, expected.parameter, magnitude), kFloatRoundoff) << n;
  }
}

TEST_P(FloatSpanKernels, AdamWGivesTheSameBitsWhereverTheSpanIsSplit) {
  constexpr int64_t kCount = 1000;
  const AdamWCase given(kCount);
  const reference::AdamWState whole = given.clone();
  run_adamw(*GetParam().plain, whole, given.gradient, 0, kCount, kStep);
  for (int64_t split = 0; split <= kCount; split += 64) {
    const reference::AdamWState parts = given.clone();
    run_adamw(*GetParam().plain, parts, given.gradient, 0, split, kStep);
    run_adamw(*GetParam().plain, parts, given.gradient, split, kCount - split, kStep);
    EXPECT_TRUE(same_bits(parts.parameter, whole.parameter)) << split;
    EXPECT_TRUE(same_bits(parts.moment1, whole.moment1)) << split;
    EXPECT_TRUE(same_bits(parts.moment2, whole.moment2)) << split;
  }
}

TEST_P(FloatSpanKernels, AdamWLeavesAParameterThatNeverHadAGradient) {
  const at::Tensor parameter = at::randn({37});
  const reference::AdamWState state = {parameter.clone(), floats({37}), floats({37})};
  AdamWStep step = kStep;
  step.weight_decay = 0;
  run_adamw(*GetParam().plain, state, floats({37}), 0, 37, step);
  EXPECT_TRUE(same_bits(state.parameter, parameter));
}

TEST_P(FloatSpanKernels, AddGivesTheSameBitsWhereverTheSpanIsSplit) {
  constexpr int64_t kCount = 1000;
  const at::Tensor a = at::randn({kCount}), b = at::randn({kCount}), expected = a + b;
  for (int64_t split = 0; split <= kCount; split += 64) {
    const at::Tensor y = at::empty_like(a);
    for (const auto& [begin, count] : {std::pair(int64_t{0}, split), std::pair(split, kCount - split)})
      GetParam().plain->add(data_of<float>(a) + begin, data_of<float>(b) + begin, data_of<float>(y) + begin, count);
    EXPECT_TRUE(same_bits(y, expected)) << split;
  }
}

TEST_P(FloatSpanKernels, AddMayWriteOverAnArgument) {
  const at::Tensor a = at::randn({77}), b = at::randn({77}), y = a.clone();
  GetParam().plain->add(data_of<float>(y), data_of<float>(b), data_of<float>(y), 77);
  EXPECT_TRUE(same_bits(y, a + b));
}

TEST_P(FloatSpanKernels, SumOfSquaresIsThatOfDoublesAndTheSameInEveryCopy) {
  for (const int64_t n : {0, 1, 15, 16, 17, 64, 1000}) {
    const at::Tensor x = at::randn({n}) * 1e25;  // squares pass the range of a float
    const double got = GetParam().plain->sum_of_squares(data_of<float>(x), n);
    const double expected = x.to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(got, expected, expected * 1e-14) << "a thousand roundings to 53 bits";
    EXPECT_EQ(got, copies().front().plain->sum_of_squares(data_of<float>(x), n)) << "products of floats are exact";
  }
}

TEST_P(FloatSpanKernels, LargestMagnitudeIsThatOfLibTorch) {
  EXPECT_EQ(GetParam().plain->largest_magnitude(nullptr, 0), 0.0f);
  for (const int64_t n : {1, 15, 16, 17, 64, 1000}) {
    const at::Tensor x = at::randn({n});
    EXPECT_EQ(GetParam().plain->largest_magnitude(data_of<float>(x), n), x.abs().max().item<float>());
    for (const int64_t place : {int64_t{0}, n / 2, n - 1}) {
      const at::Tensor peak = x.clone();
      peak[place] = -100;
      EXPECT_EQ(GetParam().plain->largest_magnitude(data_of<float>(peak), n), 100.0f) << place;
    }
  }
}

}  // namespace
}  // namespace plumb
