// The hand-written forward and backward of a sparse MLP against LibTorch's autograd of experts_reference.hpp.
#include "lib/nn/experts.hpp"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "lib/kernels/reference.hpp"
#include "lib/nn/experts_reference.hpp"
#include "lib/nn/router_loss.hpp"

namespace plumb {
namespace {

constexpr int64_t kHidden = 36, kSize = 22, kSharedSize = 14;  // none is a multiple of the 16 lanes
constexpr double kCoefficient = 3;

struct ExpertCase {
  const char* what;
  ExpertConfig config;
  bool has_biases = false;
  bool has_shared = false;
};
void PrintTo(const ExpertCase& given, std::ostream* out) { *out << given.what; }

const ExpertCase kCases[] = {
    {"mixtral", {{4, 2, true, false}}},
    {"qwen3_moe", {{8, 3, true, true}}},
    {"plain", {{8, 3, false, true}}},
    {"qwen2_moe", {{6, 3, false, true}}, false, true},
    {"gpt_oss", {{5, 2, true, true}, ClampedSwiglu{0.7f}}, true},
    {"one_of_many", {{9, 1, false, false}}},
    {"all_of_few", {{3, 3, true, false}}, true, true},
};

struct Named {
  const char* name;
  at::Tensor ExpertTensors::*tensor;
};
constexpr Named kTensors[] = {{"router", &ExpertTensors::router_ED},
                              {"router_bias", &ExpertTensors::router_bias_E},
                              {"gate_up", &ExpertTensors::gate_up_EGD},
                              {"gate_up_bias", &ExpertTensors::gate_up_bias_EG},
                              {"down", &ExpertTensors::down_EDF},
                              {"down_bias", &ExpertTensors::down_bias_ED},
                              {"shared_router", &ExpertTensors::shared_router_1D},
                              {"shared_gate_up", &ExpertTensors::shared_gate_up_UD},
                              {"shared_down", &ExpertTensors::shared_down_DS}};

/// body(name, parameter, of the same place in `others`...) for each tensor that there is.
template <class Body>
void for_each_tensor(const ExpertTensors& tensors, Body body) {
  for (const Named& named : kTensors)
    if ((tensors.*named.tensor).defined()) body(named.name, named.tensor);
}
template <class Map>
ExpertTensors mapped(const ExpertTensors& tensors, Map map) {
  ExpertTensors result;
  for_each_tensor(tensors, [&](const char*, auto tensor) { result.*tensor = map(tensors.*tensor); });
  return result;
}

struct Computed {
  at::Tensor out, dinput;
  ExpertTensors gradients;
  Routing routing;
  RouterLoad load;
};

class Experts : public testing::TestWithParam<ExpertCase> {
 protected:
  void SetUp() override { at::manual_seed(1); }

  ExpertTensors random_parameters(at::ScalarType dtype) const {
    const int64_t experts = config_.router.num_experts;
    const auto random = [&](at::IntArrayRef shape, double scale) { return (at::randn(shape) * scale).to(dtype); };
    ExpertTensors t;
    t.router_ED = random({experts, kHidden}, 0.3);
    t.gate_up_EGD = random({experts, 2 * kSize, kHidden}, 0.2);
    t.down_EDF = random({experts, kHidden, kSize}, 0.2);
    if (GetParam().has_biases) {
      t.router_bias_E = random({experts}, 0.3);
      t.gate_up_bias_EG = random({experts, 2 * kSize}, 0.3);
      t.down_bias_ED = random({experts, kHidden}, 0.3);
    }
    if (GetParam().has_shared) {
      t.shared_router_1D = random({1, kHidden}, 0.2);
      t.shared_gate_up_UD = random({2 * kSharedSize, kHidden}, 0.2);
      t.shared_down_DS = random({kHidden, kSharedSize}, 0.2);
    }
    return t;
  }

  /// A gradient of which the rows that are no tokens are zero.
  static at::Tensor random_gradient(int64_t num_tokens, int64_t num_rows, at::ScalarType dtype) {
    const at::Tensor gradient = at::zeros({num_rows, kHidden}, dtype);
    gradient.narrow(0, 0, num_tokens).copy_(at::randn({num_tokens, kHidden}));
    return gradient;
  }

  Computed compute(const ExpertTensors& p, const at::Tensor& x, int64_t num_tokens, const at::Tensor& dout,
                   bool has_router_loss = false, bool recomputes = false) const {
    const ExpertInput input = {x, num_tokens};
    ExpertActivations saved;
    Computed got;
    got.out = experts_forward(config_, p, input, {}, saved);
    if (recomputes) {
      saved = {};
      experts_recompute(config_, p, input, saved);
    }
    got.routing = saved.routing;
    got.load = router_load(saved.routing);
    got.gradients = mapped(p, [](const at::Tensor& t) { return at::full_like(t, std::nan("")); });
    std::vector<double> dprobability;
    if (has_router_loss) dprobability = router_loss_gradient(got.load.num_chosen_E, got.load.num_tokens, kCoefficient);
    got.dinput = experts_backward(config_, p, input, saved, dout, got.gradients, dprobability);
    EXPECT_TRUE(saved.experts.empty()) << "activations are freed";
    return got;
  }

  static std::vector<std::vector<int64_t>> experts_of_token(const Routing& routing) {
    const int64_t chosen = routing.weight_NC.size(1);
    std::vector<std::vector<int64_t>> result;
    for (int64_t t = 0; t < routing.num_tokens; ++t)
      result.emplace_back(routing.expert_NC.begin() + t * chosen, routing.expert_NC.begin() + (t + 1) * chosen);
    return result;
  }

  void expect_autograd_of_reference(at::ScalarType dtype, double tolerance, bool has_router_loss) const {
    for (const auto& [num_tokens, num_rows] : {std::pair<int64_t, int64_t>{1, 1}, {23, 23}, {40, 64}}) {
      const ExpertTensors p = random_parameters(dtype);
      const at::Tensor x = at::randn({num_rows, kHidden}).to(dtype);
      const at::Tensor dout = random_gradient(num_tokens, num_rows, dtype);
      const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).set_requires_grad(true); };
      const ExpertTensors exact = mapped(p, leaf);
      const at::Tensor exact_x = leaf(x);
      const Computed got = compute(p, x, num_tokens, dout, has_router_loss);
      const auto chosen = experts_of_token(got.routing);
      const at::Tensor expected = reference::experts(config_, exact, exact_x, chosen);
      at::Tensor objective = (expected * dout.to(at::kDouble)).sum();
      if (has_router_loss) {
        const at::Tensor loss = reference::router_loss(exact, exact_x, chosen);
        EXPECT_NEAR(router_loss(got.load), loss.item<double>(), tolerance * loss.item<double>());
        objective = objective + kCoefficient * loss;
      }
      objective.backward();
      EXPECT_EQ(got.out.scalar_type(), dtype);
      EXPECT_LE(reference::relative_distance(got.out, expected.detach()), tolerance);
      EXPECT_LE(reference::relative_distance(got.dinput, exact_x.grad()), tolerance);
      for_each_tensor(p, [&](const char* name, auto tensor) {
        const at::Tensor gradient = got.gradients.*tensor, want = (exact.*tensor).grad();
        // the gradient of a weight is a sum of terms of either sign, and the router's a difference of such sums; over
        // many tokens errors average out
        const bool is_router = std::string(name).find("router") != std::string::npos;
        const double amplified = !is_router ? 1 : num_tokens == 1 ? 20 : 2;
        if (want.norm().template item<double>() < 1e-12) {  // one token of one expert has the weight 1
          EXPECT_LE(gradient.norm().template item<double>(), 100 * tolerance) << name;
        } else {
          EXPECT_LE(reference::relative_distance(gradient, want), amplified * tolerance) << name << ", " << num_tokens;
        }
      });
    }
  }

  const ExpertConfig config_ = GetParam().config;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Experts, testing::ValuesIn(kCases),
                         [](const auto& named) { return std::string(named.param.what); });

// About ten steps follow each other, forward and backward, most of them sums of up to 40 products, as in
// block_test.cpp.
TEST_P(Experts, InFloat32EqualAutogradOfTheReference) {
  expect_autograd_of_reference(at::kFloat, 25 * 0x1p-24, false);
  expect_autograd_of_reference(at::kFloat, 25 * 0x1p-24, true);
}

// A gate or up near the limit may be rounded to its other side, where the gradient is zero: about one in 200 is, which
// is sqrt(1 / 200) of the norm.
TEST_P(Experts, InBFloat16EqualAutogradOfTheReference) {
  const double tolerance = (config_.clamp ? 5 : 1) * 5.5 * 0x1p-8;
  expect_autograd_of_reference(at::kBFloat16, tolerance, false);
  expect_autograd_of_reference(at::kBFloat16, tolerance, true);
}

TEST_P(Experts, TokensGoToTheLargestLogits) {
  const ExpertTensors p = random_parameters(at::kFloat);
  const at::Tensor x = at::randn({50, kHidden});
  const Computed got = compute(p, x, 50, x);
  EXPECT_EQ(experts_of_token(got.routing),
            reference::choose_experts(config_.router, reference::router_logits(p, x), 50));
}

TEST_P(Experts, HaveTheSameBitsOnAnyThreadsAndAfterRecomputation) {
  constexpr int64_t kTokens = 300, kRows = 320;
  const int threads = at::get_num_threads();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const ExpertTensors p = random_parameters(dtype);
    const at::Tensor x = at::randn({kRows, kHidden}).to(dtype), dout = random_gradient(kTokens, kRows, dtype);
    at::set_num_threads(1);
    const Computed one = compute(p, x, kTokens, dout, true);
    const Computed again = compute(p, x, kTokens, dout, true, true);
    at::set_num_threads(2);
    const Computed two = compute(p, x, kTokens, dout, true);
    for (const Computed* other : {&again, &two}) {
      EXPECT_TRUE(other->out.equal(one.out));
      EXPECT_TRUE(other->dinput.equal(one.dinput));
      EXPECT_EQ(other->load.probability_E, one.load.probability_E);
      for_each_tensor(p, [&](const char* name, auto tensor) {
        EXPECT_TRUE((other->gradients.*tensor).equal(one.gradients.*tensor)) << name;
      });
    }
  }
  at::set_num_threads(threads);
}

TEST_P(Experts, ATokenDoesNotDependOnOthers) {
  const ExpertTensors p = random_parameters(at::kFloat);
  const at::Tensor x = at::randn({30, kHidden}), dout = at::randn({30, kHidden});
  const Computed all = compute(p, x, 30, dout);
  const Computed some = compute(p, x.narrow(0, 10, 5).contiguous(), 5, dout.narrow(0, 10, 5).contiguous());
  EXPECT_TRUE(some.out.equal(all.out.narrow(0, 10, 5)));
  EXPECT_TRUE(some.dinput.equal(all.dinput.narrow(0, 10, 5)));
}

TEST_P(Experts, PaddingChangesNothing) {
  const ExpertTensors p = random_parameters(at::kFloat);
  const at::Tensor x = at::randn({30, kHidden}), dout = random_gradient(23, 30, at::kFloat);
  const Computed padded = compute(p, x, 23, dout, true);
  const Computed plain = compute(p, x.narrow(0, 0, 23).contiguous(), 23, dout.narrow(0, 0, 23).contiguous(), true);
  EXPECT_TRUE(padded.out.narrow(0, 0, 23).equal(plain.out));
  EXPECT_TRUE(padded.dinput.narrow(0, 0, 23).equal(plain.dinput));
  EXPECT_EQ(padded.load.num_chosen_E, plain.load.num_chosen_E);
  EXPECT_EQ(padded.load.probability_E, plain.load.probability_E);
  EXPECT_EQ(padded.load.num_tokens, 23);
  for_each_tensor(p, [&](const char* name, auto tensor) {
    EXPECT_LE(reference::relative_distance(padded.gradients.*tensor, plain.gradients.*tensor), 1e-6) << name;
  });
}

TEST_P(Experts, AddTheResidualAndTheirGradientsWhereAskedTo) {
  const ExpertTensors p = random_parameters(at::kFloat), before = random_parameters(at::kFloat);
  const at::Tensor x = at::randn({30, kHidden}), dout = at::randn({30, kHidden}), residual = at::randn({30, kHidden});
  const Computed written = compute(p, x, 30, dout);
  const ExpertTensors sums = mapped(before, [](const at::Tensor& t) { return t.clone(); });
  ExpertActivations saved;
  const at::Tensor out = experts_forward(config_, p, {x, 30}, residual, saved);
  EXPECT_LE(reference::relative_distance(out, residual.to(at::kDouble) + written.out), 1e-6);
  const at::Tensor dinput = experts_backward(config_, p, {x, 30}, saved, dout, ExpertGradients(sums, true));
  EXPECT_TRUE(dinput.equal(written.dinput));
  for_each_tensor(p, [&](const char* name, auto tensor) {
    EXPECT_LE(reference::relative_distance(sums.*tensor, (before.*tensor).to(at::kDouble) + written.gradients.*tensor),
              1e-6)
        << name;
  });
}

TEST_P(Experts, AFrozenBaseHasTheGradientOfTheInputAlone) {
  const ExpertTensors p = random_parameters(at::kFloat);
  const at::Tensor x = at::randn({30, kHidden}), dout = at::randn({30, kHidden});
  const Computed trained = compute(p, x, 30, dout);
  ExpertActivations saved;
  experts_forward(config_, p, {x, 30}, {}, saved);
  ExpertGradients none(config_.router.num_experts);
  EXPECT_TRUE(experts_backward(config_, p, {x, 30}, saved, dout, none).equal(trained.dinput));
  experts_forward(config_, p, {x, 30}, {}, saved);
  none.needs_input = false;
  EXPECT_FALSE(experts_backward(config_, p, {x, 30}, saved, dout, none).defined());
}

/// An adapter of a whole product, of rank 2.
LoraGroup random_adapter(const at::Tensor& weight_OI) {
  LoraGroup lora;
  lora.a_RI = at::randn({2, weight_OI.size(1)}) * 0.2;
  lora.modules.push_back({0, weight_OI.size(0), 0, 2, 1.5, at::randn({weight_OI.size(0), 2}) * 0.2, {}});
  return lora;
}
LoraGroup nan_like(LoraGroup lora) {
  lora.a_RI = at::full_like(lora.a_RI, std::nan(""));
  lora.modules[0].b = at::full_like(lora.modules[0].b, std::nan(""));
  return lora;
}

// y = (W + s B A) x, so the gradients are those of W + s B A by the chain rule.
TEST_P(Experts, AdaptersAreThoseOfMergedMatrices) {
  const ExpertTensors base = random_parameters(at::kFloat);
  const ExpertTensors merged = mapped(base, [](const at::Tensor& t) { return t.clone(); });
  ExpertParameters adapted = base;
  ExpertGradients gradients(adapted.experts.size());
  std::vector<std::pair<LoraGroup, at::Tensor>> expected;  // gradients, and that of the merged matrix
  const ExpertTensors dmerged = mapped(base, [](const at::Tensor& t) { return at::zeros_like(t); });
  std::vector<LoraGroup> parameters;
  const auto adapt = [&](Linear& linear, const at::Tensor& weight, LinearGradients& gradient,
                         const at::Tensor& dweight) {
    linear.lora = random_adapter(weight);
    weight.add_(at::mm(linear.lora.modules[0].b, linear.lora.a_RI) * linear.lora.modules[0].scaling);
    gradient.lora = nan_like(linear.lora);
    parameters.push_back(linear.lora);
    expected.emplace_back(gradient.lora, dweight);
  };
  adapt(adapted.router, merged.router_ED, gradients.router, dmerged.router_ED);
  for (size_t e = 0; e < adapted.experts.size(); ++e) {
    const auto i = static_cast<int64_t>(e);
    adapt(adapted.experts[e].gate_up, merged.gate_up_EGD[i], gradients.experts[e].gate_up, dmerged.gate_up_EGD[i]);
    adapt(adapted.experts[e].down, merged.down_EDF[i], gradients.experts[e].down, dmerged.down_EDF[i]);
  }
  const at::Tensor x = at::randn({5, kHidden}), dout = at::randn({5, kHidden});  // few: some experts have none
  ExpertActivations saved, saved_merged;
  const at::Tensor want = experts_forward(config_, merged, {x, 5}, {}, saved_merged);
  EXPECT_LE(reference::relative_distance(experts_forward(config_, adapted, {x, 5}, {}, saved), want), 1e-5);
  saved = {};
  experts_recompute(config_, adapted, {x, 5}, saved);
  const at::Tensor dinput = experts_backward(config_, adapted, {x, 5}, saved, dout, gradients);
  EXPECT_LE(
      reference::relative_distance(dinput, experts_backward(config_, merged, {x, 5}, saved_merged, dout, dmerged)),
      1e-5);
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto& [got, dweight] = expected[i];
    const LoraGroup& lora = parameters[i];
    EXPECT_TRUE(at::allclose(got.a_RI, at::mm(lora.modules[0].b.t(), dweight) * 1.5, 1e-4, 1e-5));
    EXPECT_TRUE(at::allclose(got.modules[0].b, at::mm(dweight, lora.a_RI.t()) * 1.5, 1e-4, 1e-5));
  }
}

TEST(Router, ChoosesTheFirstOfEqualLogitsAndNaN) {
  const RouterConfig router = {4, 2, true, false};
  const float nan = std::nanf("");
  const at::Tensor logits = at::tensor({1.f, 2.f, 2.f, 2.f,     //
                                        0.f, 0.f, 0.f, 0.f,     //
                                        -1.f, 3.f, -1.f, -2.f,  //
                                        5.f, nan, 4.f, nan})
                                .view({4, 4});
  const Routing routing = expert_ops_of(logits).route(logits, router, 4);
  EXPECT_EQ(routing.expert_NC, (std::vector<int32_t>{1, 2, 0, 1, 0, 1, 1, 3}));
  EXPECT_EQ(routing.begin_E, (std::vector<int64_t>{0, 2, 6, 7, 8}));
  EXPECT_EQ(routing.token_A, (std::vector<int32_t>{1, 2, 0, 1, 2, 3, 0, 3}));
  EXPECT_EQ(routing.row_NC, (std::vector<int32_t>{0, 0, 0, 1, 1, 2, 3, 0}));
  EXPECT_TRUE(routing.weight_NC[3].isnan().all().item<bool>()) << "a NaN reaches the loss";
  EXPECT_EQ(routing.weight_NC[1][0].item<float>(), 0.5f);
}

TEST(RouterLoss, IsTheNumberOfChosenExpertsWhereAllHaveEqualShares) {
  const RouterLoad load = {100, {50, 50, 50, 50}, {25, 25, 25, 25}};
  EXPECT_DOUBLE_EQ(router_loss(load), 2);
  EXPECT_DOUBLE_EQ(router_loss({100, {100, 100, 0, 0}, {50, 50, 0, 0}}), 4);
  EXPECT_DOUBLE_EQ(router_loss({0, {0, 0}, {0, 0}}), 0);
}

}  // namespace
}  // namespace plumb
