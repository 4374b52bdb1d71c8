// A product with adapters, forward and backward, against LibTorch's autograd in float64 of the formulas of the papers.
#include "lib/nn/linear.hpp"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <ostream>
#include <vector>

#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

constexpr int64_t kTokens = 13, kInputs = 20;

struct Layer {
  int64_t num_outputs, rank;
  double scaling;
  bool is_adapted;
};
const std::vector<Layer> kLayers = {{12, 3, 2.0, true}, {7, 0, 0, false}, {9, 4, 0.5, true}};  // as q, k, v

struct Case {
  const char* what;
  bool has_magnitudes = false;
  double dropout = 0;
  bool has_bias = false;
  at::ScalarType dtype = at::kFloat;
};
void PrintTo(const Case& given, std::ostream* out) { *out << given.what; }

class AdaptedLinear : public testing::TestWithParam<Case> {};

/// The factor of each element of x, found by sending ones through A = B = identity.
at::Tensor mask_of(const Dropout& dropout) {
  Linear linear{at::zeros({kInputs, kInputs}), {}, {}, {}};
  const at::Tensor identity = at::eye(kInputs);
  linear.lora.a_RI = identity;
  linear.lora.modules = {{0, kInputs, 0, kInputs, 1.0, identity, {}}};
  LinearActivations saved;
  return linear_forward(linear, at::ones({kTokens, kInputs}), {}, dropout, saved);
}

TEST_P(AdaptedLinear, IsThatOfThePapers) {
  at::manual_seed(3);
  const Case& given = GetParam();
  const at::TensorOptions options = at::TensorOptions().dtype(given.dtype);
  int64_t num_outputs = 0, num_ranks = 0;
  for (const Layer& layer : kLayers) num_outputs += layer.num_outputs, num_ranks += layer.rank;
  Linear linear{at::randn({num_outputs, kInputs}).to(options), {}, {}, {}};
  if (given.has_bias) linear.bias_O = at::randn({num_outputs}).to(options);
  LoraGroup gradients;
  linear.lora.a_RI = at::randn({num_ranks, kInputs}).to(options);
  gradients.a_RI = at::full_like(linear.lora.a_RI, std::nan(""), at::kFloat);
  const at::Tensor x = at::randn({kTokens, kInputs}).to(options), dy = at::randn({kTokens, num_outputs}).to(options);
  const Dropout dropout{given.dropout, 5, 17};
  const at::Tensor mask = given.dropout > 0 ? mask_of(dropout) : at::ones({kTokens, kInputs});
  if (given.dropout > 0) {
    EXPECT_NEAR(mask.eq(0).sum().item<double>() / static_cast<double>(mask.numel()), given.dropout, 0.1);
  }

  const auto leaf = [](const at::Tensor& t) { return t.to(at::kDouble).detach().clone().set_requires_grad(true); };
  const at::Tensor x_leaf = leaf(x), a_leaf = leaf(linear.lora.a_RI), weight = linear.weight_OI.to(at::kDouble);
  const at::Tensor dropped = x_leaf * mask.to(at::kDouble);
  std::vector<at::Tensor> leaves = {x_leaf, a_leaf}, outputs;
  int64_t first_output = 0, first_rank = 0;
  for (const Layer& layer : kLayers) {
    const at::Tensor w = weight.narrow(0, first_output, layer.num_outputs);
    at::Tensor y = at::matmul(x_leaf, w.t());
    if (layer.is_adapted) {
      LoraGroup::Module module{first_output,
                               layer.num_outputs,
                               first_rank,
                               layer.rank,
                               layer.scaling,
                               at::randn({layer.num_outputs, layer.rank}).to(options),
                               {}};
      const at::Tensor b = leaf(module.b), a = a_leaf.narrow(0, first_rank, layer.rank);
      LoraGroup::Module gradient = module;
      gradient.b = at::full_like(module.b, std::nan(""), at::kFloat);
      leaves.push_back(b);
      const at::Tensor update = at::matmul(at::matmul(dropped, a.t()), b.t()) * layer.scaling;
      if (given.has_magnitudes) {
        module.magnitude = (at::randn({layer.num_outputs}).abs() + 1).to(options);
        module.squared_norms = cpu_ops().squared_row_norms(linear.weight_OI.narrow(0, first_output, layer.num_outputs));
        gradient.magnitude = at::full_like(module.magnitude, std::nan(""), at::kFloat);
        const at::Tensor magnitude = leaf(module.magnitude);
        leaves.push_back(magnitude);
        const at::Tensor adapted = (w + at::matmul(b, a) * layer.scaling).detach();
        const at::Tensor scale = magnitude / at::sqrt((adapted * adapted).sum(1));
        const at::Tensor base = at::matmul(dropped, w.t());
        y = y - base + (base + update) * scale;
      } else {
        y = y + update;
      }
      linear.lora.modules.push_back(module);
      gradients.modules.push_back(gradient);
    }
    outputs.push_back(y);
    first_output += layer.num_outputs;
    first_rank += layer.rank;
  }
  at::Tensor expected = at::cat(outputs, 1);
  const std::vector<at::Tensor> expected_gradients =
      torch::autograd::grad({(expected * dy.to(at::kDouble)).sum()}, leaves);
  if (given.has_bias) expected = expected + linear.bias_O.to(at::kDouble);

  LinearActivations saved;
  const at::Tensor y = linear_forward(linear, x, {}, dropout, saved);
  const at::Tensor dy_before = dy.clone();
  const LinearInputGradient backward = linear_backward_input(linear, dy, saved, dropout, true, &gradients);
  linear_backward_a(backward, x, dropout, gradients);
  EXPECT_TRUE(dy.equal(dy_before)) << "the gradient of the output is read only";

  const double tolerance = given.dtype == at::kFloat ? 2e-6 : 2e-2;
  const auto expect_near = [&](const at::Tensor& got, const at::Tensor& want, const char* what) {
    const double scale = want.abs().max().item<double>();
    EXPECT_LE((got.to(at::kDouble) - want).abs().max().item<double>(), tolerance * scale) << what;
  };
  expect_near(y, expected.detach(), "y");
  expect_near(backward.dx_TI, expected_gradients[0], "dx");
  expect_near(gradients.a_RI, expected_gradients[1], "dA");
  size_t next = 2;
  for (const LoraGroup::Module& module : gradients.modules) {
    expect_near(module.b, expected_gradients[next++], "dB");
    if (given.has_magnitudes) expect_near(module.magnitude, expected_gradients[next++], "dmagnitude");
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, AdaptedLinear,
                         testing::Values(Case{"lora"}, Case{"lora_bias", false, 0, true},
                                         Case{"lora_dropout", false, 0.3}, Case{"dora", true},
                                         Case{"dora_bias", true, 0, true}, Case{"dora_dropout", true, 0.3, true},
                                         Case{"lora_bfloat16", false, 0, true, at::kBFloat16},
                                         Case{"dora_bfloat16", true, 0, false, at::kBFloat16}),
                         [](const auto& given) { return given.param.what; });

TEST(Dropout, IsAFunctionOfItsStream) {
  const at::Tensor one = mask_of({0.5, 1, 1});
  EXPECT_TRUE(one.equal(mask_of({0.5, 1, 1})));
  EXPECT_FALSE(one.equal(mask_of({0.5, 1, 2})));
  EXPECT_FALSE(one.equal(mask_of({0.5, 2, 1})));
  EXPECT_TRUE(mask_of({0, 1, 1}).equal(at::ones({kTokens, kInputs})));
}

TEST(Linear, WithNf4EqualsItsDequantizedSelf) {
  at::manual_seed(4);
  const at::Tensor first = at::randn({6, 33}), second = at::randn({5, 33});
  const Nf4Layout layouts[] = {nf4_layout(first.numel(), true), nf4_layout(second.numel(), true)};
  std::vector<std::vector<std::byte>> bytes;
  Linear linear;
  linear.quantized = {{}, 11, 33, at::empty({11 * 33})};
  const at::Tensor weights[] = {first, second};
  for (size_t i = 0; i < 2; ++i) {
    bytes.emplace_back(layouts[i].num_bytes);
    nf4_quantize({weights[i].data_ptr<float>(), static_cast<size_t>(weights[i].numel())}, layouts[i], bytes[i]);
  }
  for (size_t i = 0; i < 2; ++i) linear.quantized.layers.push_back({layouts[i], bytes[i].data(), Dtype::kF32});
  const at::Tensor plain = linear.weight().clone();
  EXPECT_LT((plain - at::cat({first, second})).abs().max().item<double>(), 0.5) << "close to what was quantized";
  for (size_t i = 0; i < 2; ++i) {
    std::vector<float> values(weights[i].numel());
    nf4_dequantize(linear.quantized.layers[i], 0, values);
    for (size_t k = 0; k < values.size(); ++k)
      ASSERT_EQ(plain.data_ptr<float>()[(i == 0 ? 0 : 6 * 33) + static_cast<int64_t>(k)], values[k]);
  }
}

TEST(LoraGroups, BeginWhereTheirMatrixBeginsInItsProduct) {
  ModelConfig config = test::tiny_config();
  for (const bool has_gate : {true, false}) {
    config.feed_forward = has_gate ? FeedForward::kSwiGlu : FeedForward::kGelu;
    const Adapter adapter = {.targets = {{ParameterKind::kV, 0, 2, 1.0}, {ParameterKind::kUp, 0, 2, 1.0}}, .whole = {}};
    const UnitLayout unit = adapter_layout(config, adapter);
    const PerProduct<LoraGroup> groups = lora_groups(config, adapter, unit, 0, at::zeros({unit.num_elements}));
    EXPECT_EQ(groups[Product::kQkv].modules.front().first_output, 60);  // after q and k
    EXPECT_EQ(groups[Product::kGateUp].modules.front().first_output, has_gate ? 52 : 0);
  }
}

}  // namespace
}  // namespace plumb
