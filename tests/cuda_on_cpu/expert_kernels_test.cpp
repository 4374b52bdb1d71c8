// Kernels of mixtures of experts beside ExpertOps of the CPU.
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lib/nn/expert_ops.hpp"
#include "tests/cuda_on_cpu/schedules.hpp"

namespace plumb {
namespace {

template <class T>
class CudaExperts : public Kernels<T> {
 protected:
  static constexpr int64_t kTokens = 7, kRows = 8;  // the last row is no token
  // of two results of a few roundings each
  static constexpr double kError = 16 * kFloatRoundoff + 2 * Kernels<T>::kStored;

  static void expect_near(const at::Tensor& got, const at::Tensor& expected, double error = kError) {
    EXPECT_LE(reference::relative_distance(got, expected), error);
  }
  static at::Tensor ints(const std::vector<int32_t>& values) {
    const at::Tensor x = at::zeros({static_cast<int64_t>(values.size())}, at::kInt);
    std::copy(values.begin(), values.end(), data_of<int32_t>(x));
    return x;
  }
};
TYPED_TEST_SUITE(CudaExperts, ElementTypes);

TYPED_TEST(CudaExperts, RouteAndItsGradient) {
  using T = TypeParam;
  for (const auto& [experts, chosen] : {std::pair<int64_t, int64_t>{8, 2}, {40, 6}, {5, 5}})
    for (const bool renormalizes : {false, true}) {
      const RouterConfig router = {experts, chosen, renormalizes, !renormalizes};
      const cuda::RouterShape shape = {this->kTokens, experts, chosen, renormalizes, !renormalizes};
      const at::Tensor logits = this->randn({this->kRows, experts});
      logits[1].fill_(0.5);  // ties: the first are chosen
      const ExpertOps& cpu = expert_ops_of(logits);
      const Routing expected = cpu.route(logits, router, this->kTokens);
      const at::Tensor weighted = at::randn({this->kTokens, chosen});
      std::vector<double> dprobability(experts);
      for (size_t e = 0; e < dprobability.size(); ++e) dprobability[e] = std::cos(static_cast<double>(e));
      const at::Tensor experts_of_cpu = this->ints(expected.expert_NC);
      const auto got = on_all_schedules(
          {unwritten(expected.probability_NE), unwritten(expected.weight_NC), at::zeros_like(experts_of_cpu),
           at::zeros_like(logits), at::zeros_like(logits)},
          [&](const auto& out) {
            cuda::route(shape, data_of<T>(logits), data_of<float>(out[0]), data_of<float>(out[1]),
                        data_of<int32_t>(out[2]), kStream);
            for (const bool has_loss : {false, true})
              cuda::route_backward(shape, data_of<float>(expected.probability_NE), data_of<int32_t>(out[2]),
                                   data_of<float>(weighted), has_loss ? dprobability.data() : nullptr,
                                   data_of<T>(out[has_loss ? 4 : 3]), kStream);
          });
      this->expect_near(got[0], at::softmax(logits.narrow(0, 0, this->kTokens).to(at::kDouble), 1), 8 * kFloatRoundoff);
      this->expect_near(got[1], expected.weight_NC);
      EXPECT_TRUE(same_bits(got[2], experts_of_cpu));
      this->expect_near(got[3], cpu.route_backward(expected, router, weighted, {}, logits));
      this->expect_near(got[4], cpu.route_backward(expected, router, weighted, dprobability, logits));
    }
}

TYPED_TEST(CudaExperts, ChoosesANanFirst) {
  using T = TypeParam;
  const at::Tensor logits = this->randn({1, 40});
  logits[0][33] = logits[0][37] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor probability = floats({1, 40}), weight = floats({1, 3}), expert = at::zeros({3}, at::kInt);
  cuda::route({1, 40, 3, true, false}, data_of<T>(logits), data_of<float>(probability), data_of<float>(weight),
              data_of<int32_t>(expert), kStream);
  const Routing expected = expert_ops_of(logits).route(logits, {40, 3, true, false}, 1);
  EXPECT_TRUE(same_bits(expert, this->ints(expected.expert_NC)));
  EXPECT_TRUE(std::isnan(data_of<float>(weight)[0]));
}

TYPED_TEST(CudaExperts, RowsToAndFromExperts) {
  using T = TypeParam;
  constexpr int64_t kExperts = 3, kChosen = 2, kDim = 45, kPadded = 12;
  const at::Tensor x = this->randn({this->kRows, kDim}), logits = this->randn({this->kRows, kExperts});
  const ExpertOps& cpu = expert_ops_of(x);
  const Routing routing = cpu.route(logits, {kExperts, kChosen, true, true}, this->kTokens);
  std::vector<at::Tensor> rows;
  std::vector<const T*> pointers;
  for (const bool is_weighted : {false, true}) {
    rows.clear(), pointers.clear();
    for (int64_t e = 0; e < kExperts; ++e) {
      rows.push_back(cpu.gather(routing, e, x, kPadded, is_weighted));
      pointers.push_back(data_of<T>(rows.back()));
      const auto got = on_all_schedules({unwritten(rows.back())}, [&](const auto& out) {
        cuda::gather_expert_rows(data_of<T>(x), routing.token_A.data() + routing.begin_E[e],
                                 routing.slot_A.data() + routing.begin_E[e],
                                 is_weighted ? data_of<float>(routing.weight_NC) : nullptr, kChosen,
                                 routing.num_rows(e), data_of<T>(out[0]), kPadded, kDim, kStream);
      });
      EXPECT_TRUE(same_bits(got[0], rows.back())) << "expert " << e;
    }
  }
  const at::Tensor scale = at::rand({this->kRows}), more = this->randn({this->kRows, kDim});
  const std::vector<WeightedRows> terms = {{more, scale}, {x}};
  const at::Tensor y = at::empty_like(x);
  cpu.combine(routing, rows, true, terms, y);
  const auto got = on_all_schedules({unwritten(y), unwritten(y)}, [&](const auto& out) {
    const cuda::CombinedRows<T> combined = {this->kTokens,
                                            kChosen,
                                            pointers.data(),
                                            routing.expert_NC.data(),
                                            routing.row_NC.data(),
                                            data_of<float>(routing.weight_NC),
                                            2,
                                            {{data_of<T>(more), data_of<float>(scale)}, {data_of<T>(x), nullptr}}};
    cuda::combine_rows(combined, data_of<T>(out[0]), this->kRows, kDim, kStream);
    cuda::scale_rows(data_of<T>(x), data_of<float>(scale), data_of<T>(out[1]), this->kRows, kDim, kStream);
  });
  this->expect_near(got[0], y);
  EXPECT_TRUE(same_bits(got[1], cpu.scale_rows(x, scale)));
}

TYPED_TEST(CudaExperts, RowDots) {
  using T = TypeParam;
  constexpr int64_t kDim = 1003;
  const at::Tensor a = this->randn({9, kDim}), b = this->randn({9, kDim});
  const auto got = on_all_schedules({floats({9}), floats({9})}, [&](const auto& out) {
    cuda::row_dots(data_of<T>(a), data_of<T>(b), kDim, data_of<float>(out[0]), 9, kDim, kStream);
    cuda::row_dots(data_of<T>(a), data_of<T>(b), 0, data_of<float>(out[1]), 9, kDim, kStream);
  });
  const at::Tensor wide_a = a.to(at::kDouble), wide_b = b.to(at::kDouble);
  expect_as_good(got[0], expert_ops_of(a).row_dots(a, b), (wide_a * wide_b).sum(1));
  expect_as_good(got[1], expert_ops_of(a).row_dots(a, b.narrow(0, 0, 1)), (wide_a * wide_b[0]).sum(1));
}

TYPED_TEST(CudaExperts, ClampedSwiglu) {
  using T = TypeParam;
  constexpr int64_t kDim = 43;
  const ClampedSwiglu shape = {2.0f, 1.702f};
  const at::Tensor gate_up = this->randn({5, 2 * kDim}) * 2, dy = this->randn({5, kDim});
  data_of<T>(gate_up)[3] = data_of<T>(at::full({1}, 2.0, this->kDtype))[0];  // at the limit: no gradient
  const at::Tensor expected_dx = gate_up.clone();
  const ExpertOps& cpu = expert_ops_of(gate_up);
  const at::Tensor expected = cpu.clamped_swiglu(gate_up, shape);
  cpu.clamped_swiglu_backward(dy, expected_dx, shape);
  const auto got = on_all_schedules({unwritten(dy), gate_up, unwritten(dy)}, [&](const auto& out) {
    cuda::clamped_swiglu(data_of<T>(gate_up), data_of<T>(out[0]), 5, kDim, shape, kStream);
    cuda::clamped_swiglu_backward(data_of<T>(dy), data_of<T>(out[1]), data_of<T>(out[1]), data_of<T>(out[2]), 5, kDim,
                                  shape, kStream);
  });
  this->expect_near(got[0], expected);
  this->expect_near(got[1], expected_dx);
  EXPECT_TRUE(same_bits(got[2], got[0]));
  EXPECT_TRUE(same_bits(got[1].eq(0), expected_dx.eq(0)));
}

}  // namespace
}  // namespace plumb
