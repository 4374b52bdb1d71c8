// The table of CUDA's TensorOps beside that of the CPU: pointers, strides, scratch and what is copied from the host.
// The kernels themselves are held to the reference by tests/cuda_on_cpu. Compiled for their executor, where both tables
// work on CPU tensors, or, with PLUMB_ON_GPU, for a GPU: then it is skipped without a device.
#include "lib/nn/tensor_ops_cuda.hpp"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "lib/kernels/reference.hpp"
#include "lib/nn/compute_stream.hpp"
#include "lib/nn/expert_ops_cuda.hpp"
#include "lib/nn/matmul.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {

#ifndef PLUMB_ON_GPU
cudaStream_t compute_stream() { return nullptr; }
#endif

namespace {

template <class T>
class CudaTensorOps : public Kernels<T> {
 protected:
  // of two results of a few roundings each
  static constexpr double kError = 16 * kFloatRoundoff + 2 * Kernels<T>::kStored;

  void SetUp() override {
    Kernels<T>::SetUp();
#ifdef PLUMB_ON_GPU
    if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device";
    device_ = at::kCUDA;
#endif
  }

  /// run(table of the CPU or of CUDA, device) returns tensors that must be alike.
  template <class Run, class Table = TensorOps>
  void compare(Run run, double error = kError, const Table& of_cpu = cpu_ops(), const Table& of_cuda = cuda_ops()) {
    const std::vector<at::Tensor> expected = run(of_cpu, at::Device(at::kCPU));
    std::vector<at::Tensor> got = run(of_cuda, device_);
    for (at::Tensor& x : got) x = x.cpu();
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(got[i].sizes(), expected[i].sizes()) << i;
      if (error == 0)
        EXPECT_TRUE(same_bits(got[i], expected[i])) << i;
      else
        EXPECT_LE(reference::relative_distance(got[i], expected[i]), error) << i;
    }
  }

 private:
  at::Device device_ = at::kCPU;
};
TYPED_TEST_SUITE(CudaTensorOps, ElementTypes);

/// A copy, so that what a function writes is its own.
at::Tensor copy(const at::Tensor& x, at::Device device) { return x.to(device, x.scalar_type(), false, true); }

TYPED_TEST(CudaTensorOps, Norms) {
  constexpr int64_t kRows = 5, kColumns = 72;
  const auto x_on_cpu = this->randn({kRows, kColumns}), residual_on_cpu = this->randn({kRows, kColumns}),
             dy_on_cpu = this->randn({kRows, kColumns}), weight = this->randn({kColumns}),
             bias = this->randn({kColumns});
  for (const NormKind kind : {NormKind::kRms, NormKind::kLayer})
    this->compare([&](const TensorOps& ops, at::Device device) {
      Norm norm = {};
      norm.config.kind = kind;
      norm.config.epsilon = 1e-5;
      norm.weight_C = copy(weight, device);
      if (kind == NormKind::kLayer) norm.bias_C = copy(bias, device);
      const at::Tensor x = copy(x_on_cpu, device), residual = copy(residual_on_cpu, device),
                       dy = copy(dy_on_cpu, device);
      const at::Tensor y = at::empty_like(x), sum = at::empty_like(x), of_sum = at::empty_like(x);
      const at::Tensor stats = empty_norm_stats(x, norm.config), stats_of_sum = empty_norm_stats(x, norm.config);
      const at::Tensor dweight = floats({kColumns}).to(device), dbias = floats({kColumns}).to(device);
      ops.normalize(x, norm, y, stats);
      ops.add_normalize(x, residual, sum, norm, of_sum, stats_of_sum);
      const at::Tensor again = ops.recompute_norm({sum, stats_of_sum}, norm);
      EXPECT_TRUE(same_bits(again.cpu(), of_sum.cpu()));
      const at::Tensor dx = ops.norm_backward(dy, {x, stats}, norm, residual, dweight, dbias);
      const at::Tensor alone = ops.norm_backward(dy, {x, stats}, norm, {}, dweight, dbias);
      return std::vector{y, sum, of_sum, stats, stats_of_sum, dx, alone, dweight, dbias + 1};
    });
}

/// Norms of each head, and of all heads together, whose queries and keys have different sizes.
TYPED_TEST(CudaTensorOps, NormsOfHeadsAndRope) {
  constexpr int64_t kRows = 3, kHeads = 4, kKeyHeads = 2, kDim = 16, kColumns = (kHeads + 2 * kKeyHeads) * kDim;
  const auto x_on_cpu = this->randn({kRows, kColumns}), dy = this->randn({kRows, kColumns});
  const at::Tensor angles = at::rand({9, kDim / 2}) * 6, positions = at::randint(9, {kRows}).to(at::kInt);
  for (const bool is_of_head : {true, false}) {
    const auto q_on_cpu = this->randn({is_of_head ? kDim : kHeads * kDim}),
               k_on_cpu = this->randn({is_of_head ? kDim : kKeyHeads * kDim});
    this->compare([&](const TensorOps& ops, at::Device device) {
      NormConfig config;
      config.epsilon = 1e-6;
      const at::Tensor q = copy(q_on_cpu, device), k = copy(k_on_cpu, device), x = copy(x_on_cpu, device);
      const HeadNorms norms = {q, k, kHeads, kKeyHeads, kDim, config};
      const Rotation rotation = {angles.cos().to(device), angles.sin().to(device), positions.to(device), kDim, false};
      const at::Tensor y = copy(x, device), dx = copy(dy, device), turned = copy(x, device);
      const at::Tensor rstd = floats({kRows, norms.num_queries() + norms.num_keys()}).to(device);
      const at::Tensor dq = floats({q.size(0)}).to(device), dk = floats({k.size(0)}).to(device);
      ops.norm_heads(x, norms, y, rstd);
      ops.norm_heads_backward(x, norms, rstd, dx, dq, dk);
      ops.rope(turned, rotation, kHeads + kKeyHeads, 1.0f);
      return std::vector{y, rstd, dx, dq, dk, turned};
    });
  }
}

TYPED_TEST(CudaTensorOps, FeedForward) {
  const auto x = this->randn({3, 40}), dy = this->randn({3, 20}), wide_dy = this->randn({3, 40});
  for (const FeedForward kind : {FeedForward::kSwiGlu, FeedForward::kGeGlu, FeedForward::kGelu})
    this->compare([&](const TensorOps& ops, at::Device device) {
      const at::Tensor dx = copy(x, device);
      const at::Tensor d = copy(kind == FeedForward::kGelu ? wide_dy : dy, device);
      const at::Tensor y = ops.feed_forward(kind, dx), again = ops.feed_forward_backward(kind, d, dx);
      return std::vector{y, again, dx};
    });
}

TYPED_TEST(CudaTensorOps, LossAndHead) {
  constexpr int64_t kRows = 4, kVocabulary = 300, kColumns = 24;
  const auto logits = this->randn({kRows + 2, kVocabulary}), x = this->randn({kRows + 2, kColumns});
  const std::vector<int64_t> labels = {3, 299, 0, 3};
  const std::vector<float> scales = {0.5f, 0, 1, 2};
  this->compare([&](const TensorOps& ops, at::Device device) {
    const at::Tensor gradient_of_logits = copy(logits, device), losses = floats({2, kRows});
    std::vector<TokenStats> stats(kRows);
    ops.cross_entropy(gradient_of_logits, labels, TokenLoss::kNll, nullptr, stats.data());
    EXPECT_TRUE(same_bits(gradient_of_logits.cpu(), logits));
    for (size_t row = 0; row < stats.size(); ++row) data_of<float>(losses)[row] = stats[row].loss;
    ops.cross_entropy(gradient_of_logits, labels, TokenLoss::kDft, scales.data(), stats.data());
    for (size_t row = 0; row < stats.size(); ++row) data_of<float>(losses)[kRows + row] = stats[row].loss;
    return std::vector{losses, gradient_of_logits};
  });
  this->compare([&](const TensorOps& ops, at::Device device) {
    const at::Tensor gradient = floats({kVocabulary, kColumns}).to(device);
    at::Tensor scratch;
    for (const bool is_first : {true, false})
      ops.add_head_gradient(copy(logits, device), copy(x, device), is_first, gradient, scratch);
    return std::vector{gradient};
  });
}

TYPED_TEST(CudaTensorOps, Products) {
  constexpr int64_t kRows = 40, kDepth = 72, kColumns = 24;
  const auto x = this->randn({kRows, kDepth}), weight = this->randn({kColumns, kDepth}),
             dy = this->randn({kRows, kColumns}), bias = this->randn({kColumns});
  this->compare([&](const TensorOps&, at::Device device) {
    const at::Tensor in = copy(x, device), w = copy(weight, device), gradient = copy(dy, device);
    const at::Tensor y = product(in, w.t()), with_bias = at::empty_like(y), with_residual = at::empty_like(y);
    matmul_plus(with_bias, in, w.t(), copy(bias, device));
    matmul_plus(with_residual, in, w.t(), gradient);
    const at::Tensor dweight = floats({kColumns, kDepth}).to(device);
    matmul_accumulate(dweight, gradient.t(), in, 0.5);
    matmul_accumulate(y.narrow(1, 8, 8), in, w.narrow(0, 3, 8).t(), 2);
    return std::vector{y, with_bias, with_residual, product(gradient, w), dweight};
  });
}

TYPED_TEST(CudaTensorOps, ExactOnes) {
  const auto x_on_cpu = this->randn({6, 21});
  const at::Tensor start = at::randn({9, 21});
  const std::vector<int64_t> tokens = {4, 8, 2, 4, 8, 4}, frozen_only = {8, 8};
  this->compare(
      [&](const TensorOps& ops, at::Device device) {
        const at::Tensor x = copy(x_on_cpu, device), gradient = copy(start, device);
        ops.add_rows_by_token(x, tokens, 8, gradient);
        ops.add_rows_by_token(x, frozen_only, 8, gradient);
        ops.add_rows_by_token(x, tokens, -1, gradient);
        return std::vector{gradient, ops.drop_out(x, {0.25, 5, 6}), ops.drop_out(x, {}), ops.squared_row_norms(x)};
      },
      0);
  const std::vector<int64_t> rows = {5, 0, 5, 2}, places = {8, 3, 0, 1};
  this->compare(
      [&](const TensorOps& ops, at::Device device) {
        const at::Tensor taken = at::empty({6, 21}, this->kDtype).to(device);
        ops.take_rows(copy(x_on_cpu, device), rows, taken);
        const at::Tensor put = copy(start.to(this->kDtype), device);
        ops.put_rows(taken, places, put);
        return std::vector{taken, put};
      },
      0);
  this->compare(
      [&](const TensorOps& ops, at::Device device) {
        const at::Tensor x = copy(start, device), weight = copy(start[4], device), dx = at::empty_like(x);
        const at::Tensor dweight = copy(start[2], device), scores = floats({9});
        const std::vector<float> found = ops.score_rows(x, weight);
        std::copy(found.begin(), found.end(), data_of<float>(scores));
        ops.score_rows_backward(found, x, weight, dx, dweight);
        const at::Tensor first_dx = dx.clone();
        ops.score_rows_backward(found, x, dweight, dx, {});  // a frozen weight
        return std::vector{scores, first_dx, dx, dweight};
      },
      0);
  std::vector<float> values(200);
  for (size_t i = 0; i < values.size(); ++i) values[i] = data_of<float>(start)[i % 189];
  for (const bool is_nested : {false, true}) {
    const Nf4Layout layout = nf4_layout(200, is_nested);
    std::vector<std::byte> bytes(layout.num_bytes);
    nf4_quantize(values, layout, bytes);
    this->compare(
        [&](const TensorOps& ops, at::Device device) {
          const at::Tensor out = at::empty({150}, this->kDtype).to(device);
          const at::Tensor matrix = copy(at::from_blob(bytes.data(), {layout.num_bytes}, at::kByte), device);
          ops.nf4_dequantize({layout, data_of<std::byte>(matrix), Dtype::kBf16}, 41, out);
          return std::vector{out};
        },
        0);
  }
  EXPECT_EQ(cuda_ops().round_up_rows(129, 2), 256);
}

/// Tokens to their experts and back.
TYPED_TEST(CudaTensorOps, Experts) {
  constexpr int64_t kRows = 6, kTokens = 5, kExperts = 5, kColumns = 20;
  const RouterConfig router = {kExperts, 2, true, true};
  const auto logits_on_cpu = this->randn({kRows, kExperts}), x_on_cpu = this->randn({kRows, kColumns});
  const at::Tensor weighted = at::randn({kTokens, 2}), scale = at::rand({kRows});
  const std::vector<double> dprobability = {1, -2, 3, -4, 5};
  this->compare(
      [&](const ExpertOps& ops, at::Device device) {
        const at::Tensor logits = copy(logits_on_cpu, device), x = copy(x_on_cpu, device);
        const at::Tensor scale_of_rows = copy(scale, device), y = at::empty_like(x), dx = copy(x, device);
        const Routing routing = ops.route(logits, router, kTokens);
        std::vector<at::Tensor> rows;
        for (int64_t e = 0; e < kExperts; ++e) rows.push_back(ops.gather(routing, e, x, kRows, e % 2 == 0));
        const std::vector<WeightedRows> more = {{x, scale_of_rows}, {x}};
        ops.combine(routing, rows, true, more, y);
        const at::Tensor half = x.narrow(1, 0, kColumns / 2).contiguous();
        const at::Tensor again = ops.clamped_swiglu_backward(half, dx, {});
        std::vector<at::Tensor> results = {routing.probability_NE, routing.weight_NC, y, again, dx};
        results.push_back(ops.route_backward(routing, router, copy(weighted, device), dprobability, logits));
        results.push_back(ops.route_backward(routing, router, copy(weighted, device), {}, logits));
        results.push_back(ops.scale_rows(x, scale_of_rows));
        results.push_back(ops.row_dots(x, y));
        results.push_back(ops.row_dots(x, x[2]));
        results.push_back(ops.clamped_swiglu(x, {}));
        return results;
      },
      2 * TestFixture::kError, expert_ops_of(x_on_cpu), cuda_expert_ops());
}

}  // namespace
}  // namespace plumb
