// Kernels that only some model families use: LayerNorm, GELU, rotation of neighbors and of a part of a head, and the
// softmax of capped scores.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/kernels/reference.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

template <class T>
using FamilyKernels = Kernels<T>;
TYPED_TEST_SUITE(FamilyKernels, ElementTypes);

at::Tensor leaf(const at::Tensor& x) { return x.to(at::kDouble).clone().set_requires_grad(true); }

TYPED_TEST(FamilyKernels, LayerNormAndItsGradientsEqualTheReference) {
  using T = TypeParam;
  constexpr float kEpsilon = 1e-5f;
  for (int64_t dim : {5, 16, 17, 31, 100, 576})
    for (const bool has_bias : {false, true}) {
      constexpr int64_t kRows = 3;
      const at::Tensor x = this->randn({kRows, dim}) + 0.5, weight = this->randn({dim}), bias = this->randn({dim});
      const at::Tensor input = x.to(this->kDtype), dy = this->randn({kRows, dim}), carry = this->randn({kRows, dim});
      const at::Tensor exact_x = leaf(input), exact_weight = leaf(weight), exact_bias = leaf(bias);
      const at::Tensor expected =
          at::layer_norm(exact_x, {dim}, exact_weight, has_bias ? exact_bias : at::Tensor(), kEpsilon);
      expected.backward(dy.to(at::kDouble));
      this->for_each_copy([&](const auto& kernels) {
        const NormWeight<T> norm = {data_of<T>(weight), has_bias ? data_of<T>(bias) : nullptr, 0};
        const at::Tensor y = at::empty_like(input), again = at::empty_like(input), stats = floats({kRows, 2});
        kernels.layer_norm(data_of<T>(input), norm, data_of<T>(y), data_of<float>(stats), kRows, dim, kEpsilon);
        const double tolerance = 40 * kFloatRoundoff + this->kStored;
        EXPECT_LE(reference::relative_distance(y, expected.detach()), tolerance) << dim;
        kernels.recompute_layer_norm(data_of<T>(input), data_of<float>(stats), norm, data_of<T>(again), kRows, dim);
        EXPECT_TRUE(same_bits(again, y));
        const at::Tensor dx = carry.clone(), dweight = floats({dim}), dbias = floats({dim});
        kernels.layer_norm_backward(data_of<T>(dy), data_of<T>(input), data_of<float>(stats), norm, data_of<T>(dx),
                                    data_of<T>(dx), data_of<float>(dweight), has_bias ? data_of<float>(dbias) : nullptr,
                                    kRows, dim);
        EXPECT_LE(reference::relative_distance(dx, exact_x.grad() + carry.to(at::kDouble)), 4 * tolerance) << dim;
        EXPECT_LE(reference::relative_distance(dweight, exact_weight.grad()), 4 * 40 * kFloatRoundoff) << dim;
        if (has_bias) {
          EXPECT_LE(reference::relative_distance(dbias, exact_bias.grad()), 10 * kFloatRoundoff) << dim;
        }
      });
    }
}

TYPED_TEST(FamilyKernels, GeluWithAndWithoutAGateEqualsTheReference) {
  using T = TypeParam;
  for (int64_t dim : {1, 17, 64, 100})
    for (const bool has_gate : {true, false}) {
      constexpr int64_t kRows = 3;
      const at::Tensor x = (this->randn({kRows, has_gate ? 2 * dim : dim}) * 3).to(this->kDtype);
      const at::Tensor dy = this->randn({kRows, dim}), exact = leaf(x);
      const at::Tensor expected =
          has_gate ? at::gelu(exact.narrow(1, 0, dim), "tanh") * exact.narrow(1, dim, dim) : at::gelu(exact, "tanh");
      expected.backward(dy.to(at::kDouble));
      this->for_each_copy([&](const auto& kernels) {
        const FeedForwardKernels<T>& network = has_gate ? kernels.geglu : kernels.gelu;
        const at::Tensor y = at::empty_like(dy), again = at::empty_like(dy), gradient = x.clone();
        network.forward(data_of<T>(x), data_of<T>(y), kRows, dim);
        // where GELU is nearly zero its error is that of x times the error of the sigmoid
        EXPECT_LE(error_of(y, expected.detach(), expected.detach().abs() + 1e-3), 20 * kFloatRoundoff + this->kStored);
        network.backward(data_of<T>(dy), data_of<T>(gradient), data_of<T>(gradient), data_of<T>(again), kRows, dim);
        EXPECT_LE(reference::relative_distance(gradient, exact.grad()), 20 * kFloatRoundoff + this->kStored);
        EXPECT_TRUE(same_bits(again, y));
      });
    }
}

TYPED_TEST(FamilyKernels, RopeTurnsNeighborsAndPartsOfHeads) {
  using T = TypeParam;
  constexpr int64_t kRows = 3, kHeads = 2, kHeadDim = 20;
  for (const int64_t rotated : {2, 12, 20})
    for (const bool is_interleaved : {false, true}) {
      const at::Tensor x = this->randn({kRows, kHeads, kHeadDim}), angles = at::rand({kRows, rotated / 2}) * 10;
      const at::Tensor cos = angles.cos(), sin = angles.sin();
      const at::Tensor positions = at::arange(kRows, at::TensorOptions().dtype(at::kInt));
      at::Tensor part = x.narrow(2, 0, rotated).to(at::kDouble);
      if (is_interleaved) part = part.unflatten(2, {rotated / 2, 2}).transpose(2, 3).flatten(2);
      part = reference::rope(part, cos.to(at::kDouble), sin.to(at::kDouble));
      if (is_interleaved) part = part.unflatten(2, {2, rotated / 2}).transpose(2, 3).flatten(2);
      const at::Tensor expected = at::cat({part, x.narrow(2, rotated, kHeadDim - rotated).to(at::kDouble)}, 2);
      this->for_each_copy([&](const auto& kernels) {
        const at::Tensor y = x.clone();
        const RopeRows<T> rows = {
            data_of<T>(y), kHeads * kHeadDim, data_of<int32_t>(positions), kRows, kHeads, kHeadDim,
            rotated,       is_interleaved};
        kernels.rope(rows, data_of<float>(cos), data_of<float>(sin), 1.0f);
        EXPECT_LE(reference::relative_distance(y, expected), 3 * kFloatRoundoff + this->kStored) << rotated;
        kernels.rope(rows, data_of<float>(cos), data_of<float>(sin), -1.0f);
        EXPECT_LE(reference::relative_distance(y, x.to(at::kDouble)), 8 * kFloatRoundoff + 3 * this->kStored);
      });
    }
}

TEST(CappedSoftmax, AndItsGradientEqualTheReference) {
  at::manual_seed(1);
  for (const int64_t n : {1, 15, 16, 40})
    for (const double cap : {0.0, 1.5, 50.0})
      for (const float sink : {-std::numeric_limits<float>::infinity(), 0.3f}) {
        const at::Tensor scores = at::randn({n}) * 2, dp = at::randn({n}), exact = leaf(scores);
        const at::Tensor capped = cap > 0 ? at::tanh(exact / cap) * cap : exact;
        const at::Tensor all = at::cat({capped, at::full({1}, sink, at::kDouble)});
        const at::Tensor expected = at::softmax(all, 0).narrow(0, 0, n);
        expected.backward(dp.to(at::kDouble));
        const double log_sum = at::logsumexp(all.detach(), 0).item<double>();
        for (const KernelCopy& copy : copies()) {
          SCOPED_TRACE(copy.name);
          const at::Tensor p = scores.clone(), again = at::empty_like(scores), gradient = dp.clone();
          const float got = copy.plain->capped_softmax(data_of<float>(p), n, static_cast<float>(cap), sink);
          EXPECT_NEAR(got, log_sum, 1e-5);
          EXPECT_LE(reference::relative_distance(p, expected.detach()), 1e-6) << n << " " << cap;
          const float dot = (p * dp).sum().item<float>();
          copy.plain->capped_softmax_backward(data_of<float>(scores), data_of<float>(again), data_of<float>(gradient),
                                              n, static_cast<float>(cap), got, dot);
          EXPECT_LE(reference::relative_distance(again, expected.detach()), 2e-6);
          EXPECT_LE((gradient.to(at::kDouble) - exact.grad()).abs().max().item<double>(), 3e-6) << n << " " << cap;
        }
      }
}

}  // namespace
}  // namespace plumb
