// Kernels whose results are near those of the CPU's: norms, rotations, feed-forward networks, cross-entropy. The exact
// results are those of the float64 reference.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include "tests/cuda_on_cpu/schedules.hpp"

namespace plumb {
namespace {

constexpr float kEpsilon = 1e-5f;

at::Tensor exact(const at::Tensor& x) { return x.to(at::kDouble); }

/// The gradients of inputs, given a function of them and the gradient of its result.
template <class Function>
std::vector<at::Tensor> gradients_of(std::vector<at::Tensor> inputs, const at::Tensor& dy, Function function) {
  const at::AutoGradMode with_graph(true);
  for (at::Tensor& x : inputs) x = exact(x).detach().clone().set_requires_grad(true);
  function(inputs).backward(exact(dy));
  std::vector<at::Tensor> gradients;
  for (const at::Tensor& x : inputs) gradients.push_back(x.grad());
  return gradients;
}

template <class T>
class CudaKernels : public Kernels<T> {};
TYPED_TEST_SUITE(CudaKernels, ElementTypes);

// Rows of a warp and of a block, with and without a rest; more rows than are at work at once.
struct Shape {
  int64_t rows, dim;
};
constexpr Shape kShapes[] = {{1, 5}, {19, 40}, {3, 1021}, {2, 2056}};

TYPED_TEST(CudaKernels, RmsNorm) {
  using T = TypeParam;
  for (const auto [rows, dim] : kShapes) {
    const at::Tensor x = misaligned(this->randn({rows, dim})), residual = this->randn({rows, dim}),
                     weight = this->randn({dim});
    const NormWeight<T> norm = {data_of<T>(weight), nullptr, 1.0f};
    const auto shape = cuda::NormRows::of_matrix(rows, dim);
    const at::Tensor sum = at::empty_like(x), y = at::empty_like(x), rstd = floats({rows});
    activation_kernels<T>().rms_norm(data_of<T>(x), data_of<T>(residual), data_of<T>(sum), norm, data_of<T>(y),
                                     data_of<float>(rstd), rows, dim, kEpsilon);
    const auto got = on_all_schedules({unwritten(sum), unwritten(y), unwritten(rstd)}, [&](const auto& out) {
      cuda::rms_norm(shape, data_of<T>(x), data_of<T>(residual), data_of<T>(out[0]), norm, data_of<T>(out[1]),
                     data_of<float>(out[2]), kEpsilon, kStream);
    });
    EXPECT_TRUE(same_bits(got[0], sum));
    const at::Tensor expected = reference::rms_norm(exact(sum), exact(weight) + 1, static_cast<double>(kEpsilon));
    expect_as_good(got[1], y, expected);
    const at::Tensor again = unwritten(y), alone = unwritten(y), alone_rstd = unwritten(rstd);
    cuda::recompute_rms_norm(shape, data_of<T>(sum), data_of<float>(got[2]), norm, data_of<T>(again), kStream);
    EXPECT_TRUE(same_bits(again, got[1]));
    cuda::rms_norm<T>(shape, data_of<T>(sum), nullptr, nullptr, norm, data_of<T>(alone), data_of<float>(alone_rstd),
                      kEpsilon, kStream);
    EXPECT_TRUE(same_bits(alone, got[1]) && same_bits(alone_rstd, got[2])) << "where rows begin must not matter";
  }
}

TYPED_TEST(CudaKernels, RmsNormBackward) {
  using T = TypeParam;
  for (const auto [rows, dim] : kShapes) {
    const at::Tensor x = this->randn({rows, dim}), weight = this->randn({dim}), dy = this->randn({rows, dim}),
                     carry = this->randn({rows, dim}), start = at::randn({dim});
    const at::Tensor rstd = (exact(x).square().mean(1) + static_cast<double>(kEpsilon)).rsqrt().to(at::kFloat);
    const NormWeight<T> norm = {data_of<T>(weight), nullptr, 0.0f};
    const at::Tensor dx = at::empty_like(x), dweight = start.clone();
    activation_kernels<T>().rms_norm_backward(data_of<T>(dy), data_of<T>(x), data_of<float>(rstd), norm,
                                              data_of<T>(carry), data_of<T>(dx), data_of<float>(dweight), rows, dim);
    const at::Tensor scratch = unwritten(floats({cuda::norm_scratch_elements(dim)}));
    const auto got = on_all_schedules({carry, start}, [&](const auto& out) {  // in place of the carry
      cuda::rms_norm_backward(cuda::NormRows::of_matrix(rows, dim), data_of<T>(dy), data_of<T>(x), data_of<float>(rstd),
                              norm, data_of<T>(out[0]), data_of<T>(out[0]), data_of<float>(out[1]),
                              data_of<float>(scratch), kStream);
    });
    const auto expected =
        reference::rms_norm_backward(exact(dy), exact(x), exact(weight), static_cast<double>(kEpsilon));
    expect_as_good(got[0], dx, expected.dx + exact(carry));
    expect_as_good(got[1], dweight, expected.dweight + exact(start));
  }
}

/// Heads of tokens that have other columns after them, in place of the gradient.
TYPED_TEST(CudaKernels, NormOfHeads) {
  using T = TypeParam;
  constexpr int64_t kTokens = 5, kHeads = 3, kDim = 24, kColumns = 100, kStats = 4;
  const at::Tensor x = this->randn({kTokens, kColumns}), weight = this->randn({kDim}),
                   dy = this->randn({kTokens, kColumns});
  const cuda::NormRows rows = {kTokens * kHeads, kDim, kHeads, kColumns, kStats};
  const NormWeight<T> norm = {data_of<T>(weight), nullptr, 0.0f};
  const at::Tensor y = x.clone(), rstd = floats({kTokens, kStats}), dx = dy.clone(), dweight = floats({kDim});
  for (int64_t t = 0; t < kTokens; ++t) {
    const int64_t offset = t * kColumns;
    activation_kernels<T>().rms_norm(data_of<T>(x) + offset, nullptr, nullptr, norm, data_of<T>(y) + offset,
                                     data_of<float>(rstd) + t * kStats, kHeads, kDim, kEpsilon);
    activation_kernels<T>().rms_norm_backward(data_of<T>(dx) + offset, data_of<T>(x) + offset,
                                              data_of<float>(rstd) + t * kStats, norm, nullptr, data_of<T>(dx) + offset,
                                              data_of<float>(dweight), kHeads, kDim);
  }
  const at::Tensor scratch = floats({cuda::norm_scratch_elements(kDim)});
  const auto got = on_all_schedules({x, floats({kTokens, kStats}), dy, floats({kDim})}, [&](const auto& out) {
    cuda::rms_norm<T>(rows, data_of<T>(out[0]), nullptr, nullptr, norm, data_of<T>(out[0]), data_of<float>(out[1]),
                      kEpsilon, kStream);
    cuda::rms_norm_backward<T>(rows, data_of<T>(out[2]), data_of<T>(x), data_of<float>(out[1]), norm, nullptr,
                               data_of<T>(out[2]), data_of<float>(out[3]), data_of<float>(scratch), kStream);
  });
  const double error = 8 * kFloatRoundoff + 2 * this->kStored;  // of a pair of results that are both rounded
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(reference::relative_distance(got[i], std::vector{y, rstd, dx, dweight}[i]), error) << i;
  EXPECT_TRUE(same_bits(got[0].narrow(1, kHeads * kDim, kColumns - kHeads * kDim).contiguous(),
                        x.narrow(1, kHeads * kDim, kColumns - kHeads * kDim).contiguous()));
}

TYPED_TEST(CudaKernels, LayerNorm) {
  using T = TypeParam;
  for (const auto [rows, dim] : kShapes) {
    const at::Tensor x = this->randn({rows, dim}) + 3, weight = this->randn({dim}), bias = this->randn({dim}),
                     dy = this->randn({rows, dim}), carry = this->randn({rows, dim});
    const NormWeight<T> norm = {data_of<T>(weight), data_of<T>(bias), 0.0f};
    const auto shape = cuda::NormRows::of_matrix(rows, dim);
    const at::Tensor y = at::empty_like(x), stats = floats({rows, 2}), dx = at::empty_like(x), dweight = floats({dim}),
                     dbias = floats({dim}), scratch = floats({cuda::norm_scratch_elements(dim)});
    const auto& cpu = activation_kernels<T>();
    cpu.layer_norm(data_of<T>(x), norm, data_of<T>(y), data_of<float>(stats), rows, dim, kEpsilon);
    cpu.layer_norm_backward(data_of<T>(dy), data_of<T>(x), data_of<float>(stats), norm, data_of<T>(carry),
                            data_of<T>(dx), data_of<float>(dweight), data_of<float>(dbias), rows, dim);
    const auto got = on_all_schedules(
        {unwritten(y), unwritten(stats), unwritten(y), unwritten(dx), floats({dim}), floats({dim})},
        [&](const auto& out) {
          cuda::layer_norm<T>(shape, data_of<T>(x), nullptr, nullptr, norm, data_of<T>(out[0]), data_of<float>(out[1]),
                              kEpsilon, kStream);
          cuda::recompute_layer_norm(shape, data_of<T>(x), data_of<float>(out[1]), norm, data_of<T>(out[2]), kStream);
          cuda::layer_norm_backward(shape, data_of<T>(dy), data_of<T>(x), data_of<float>(out[1]), norm,
                                    data_of<T>(carry), data_of<T>(out[3]), data_of<float>(out[4]),
                                    data_of<float>(out[5]), data_of<float>(scratch), kStream);
        });
    const auto function = [&](const auto& in) {
      return at::layer_norm(in[0], {dim}, in[1], in[2], static_cast<double>(kEpsilon));
    };
    const auto gradients = gradients_of({x, weight, bias}, dy, function);
    expect_as_good(got[0], y, function(std::vector{exact(x), exact(weight), exact(bias)}));
    EXPECT_TRUE(same_bits(got[2], got[0]));
    expect_as_good(got[3], dx, gradients[0] + exact(carry));
    expect_as_good(got[4], dweight, gradients[1]);
    expect_as_good(got[5], dbias, gradients[2]);
  }
}

TYPED_TEST(CudaKernels, Rope) {
  using T = TypeParam;
  constexpr int64_t kTokens = 4, kHeads = 3, kColumns = 150, kPositions = 9;
  for (const auto [head_dim, half] : {Shape{32, 16}, Shape{42, 9}})
    for (const bool is_interleaved : {false, true}) {
      const at::Tensor x = this->randn({kTokens, kColumns}), angles = at::rand({kPositions, half}) * 6;
      const at::Tensor cos = angles.cos(), sin = angles.sin(),
                       positions = at::randint(kPositions, {kTokens}).to(at::kInt);
      const auto rows_of = [&, head_dim = head_dim, half = half](const at::Tensor& t) {
        return RopeRows<T>{data_of<T>(t), kColumns,      data_of<int32_t>(positions), kTokens, kHeads, head_dim,
                           2 * half,      is_interleaved};
      };
      const at::Tensor y = x.clone();
      activation_kernels<T>().rope(rows_of(y), data_of<float>(cos), data_of<float>(sin), -1.0f);
      const auto got = on_all_schedules({x}, [&](const auto& out) {
        cuda::rope(rows_of(out[0]), data_of<float>(cos), data_of<float>(sin), -1.0f, kStream);
      });
      at::Tensor expected = exact(x);
      at::Tensor turned =
          expected.narrow(1, 0, kHeads * head_dim).view({kTokens, kHeads, head_dim}).narrow(2, 0, 2 * half);
      const auto order = at::arange(2 * half).view({half, 2}).t().reshape({-1});
      const at::Tensor halves = is_interleaved ? turned.index_select(2, order) : turned.clone();
      const at::Tensor rotated =
          reference::rope(halves, exact(cos).index_select(0, positions), -exact(sin).index_select(0, positions));
      turned.copy_(is_interleaved ? rotated.index_select(2, order.argsort()) : rotated);
      expect_as_good(got[0], y, expected);
    }
}

TYPED_TEST(CudaKernels, FeedForward) {
  using T = TypeParam;
  using Kind = cuda::Activation;
  const auto gelu = [](const at::Tensor& x) { return at::gelu(x, "tanh"); };
  for (const auto [rows, dim] : {Shape{3, 19}, Shape{2, 264}})
    for (const Kind kind : {Kind::kSwiGlu, Kind::kGeGlu, Kind::kGelu}) {
      const auto& cpu = activation_kernels<T>();
      const auto& kernels = kind == Kind::kSwiGlu ? cpu.swiglu : kind == Kind::kGeGlu ? cpu.geglu : cpu.gelu;
      const at::Tensor x = this->randn({rows, kind == Kind::kGelu ? dim : 2 * dim}) * 3, dy = this->randn({rows, dim});
      const at::Tensor y = at::empty_like(dy), again = at::empty_like(dy), dx = at::empty_like(x);
      kernels.forward(data_of<T>(x), data_of<T>(y), rows, dim);
      kernels.backward(data_of<T>(dy), data_of<T>(x), data_of<T>(dx), data_of<T>(again), rows, dim);
      const auto got = on_all_schedules({unwritten(y), unwritten(y), x}, [&, rows = rows, dim = dim](const auto& out) {
        cuda::feed_forward(kind, data_of<T>(x), data_of<T>(out[0]), rows, dim, kStream);
        cuda::feed_forward_backward(kind, data_of<T>(dy), data_of<T>(out[2]), data_of<T>(out[2]), data_of<T>(out[1]),
                                    rows, dim, kStream);
      });
      const auto function = [&](const auto& in) {
        if (kind == Kind::kGelu) return gelu(in[0]);
        const auto halves = in[0].chunk(2, -1);
        return kind == Kind::kSwiGlu ? reference::swiglu(in[0]) : gelu(halves[0]) * halves[1];
      };
      expect_as_good(got[0], y, function(std::vector{exact(x)}));
      EXPECT_TRUE(same_bits(got[1], got[0]));
      expect_as_good(got[2], dx, gradients_of({x}, dy, function)[0]);
    }
}

class CudaCrossEntropy : public testing::Test {
 protected:
  template <class T>
  static void compare(const at::Tensor& logits, TokenLoss kind) {
    const int64_t rows = logits.size(0), vocab = logits.size(1);
    const at::Tensor labels = at::randint(vocab, {rows}, at::TensorOptions().dtype(at::kLong)),
                     scales = at::rand({rows}) + 0.5;
    data_of<float>(scales)[0] = 0;
    const at::Tensor of_cpu = logits.clone();
    std::vector<TokenStats> stats(rows), got_stats(rows);
    activation_kernels<T>().cross_entropy(data_of<T>(of_cpu), data_of<int64_t>(labels), rows, vocab, kind,
                                          data_of<float>(scales), stats.data());
    const auto got = on_all_schedules({logits, at::zeros({rows, 6})}, [&](const auto& out) {
      cuda::cross_entropy(data_of<T>(out[0]), data_of<int64_t>(labels), rows, vocab, kind, data_of<float>(scales),
                          got_stats.data(), kStream);
      for (int64_t row = 0; row < rows; ++row) {
        const TokenStats& s = got_stats[row];
        const float values[] = {s.loss,       s.log_probability,   s.entropy, s.is_correct ? 1.0f : 0.0f,
                                s.mean_logit, s.log_sum_of_squares};
        std::copy(std::begin(values), std::end(values), data_of<float>(out[1]) + row * 6);
      }
    });
    const auto expected = reference::cross_entropy(exact(logits), labels, kind);
    const at::Tensor exact_stats =
        at::stack({expected.loss, expected.log_probability, expected.entropy, expected.is_correct.to(at::kDouble),
                   expected.mean_logit, expected.log_sum_of_squares},
                  1);
    // logits reach 20: rounding a difference of two costs 2^-20 in an exponential
    EXPECT_LE((exact(got[1]) - exact_stats).abs().max().template item<double>(), 1e-5) << rows << " x " << vocab;
    expect_as_good(got[0], of_cpu,
                   reference::cross_entropy_backward(exact(logits), labels, kind) * exact(scales).unsqueeze(1));
    EXPECT_EQ(got[0][0].abs().max().template item<float>(), 0);
    const at::Tensor untouched = logits.clone();
    cuda::cross_entropy(data_of<T>(untouched), data_of<int64_t>(labels), rows, vocab, kind, nullptr, got_stats.data(),
                        kStream);
    EXPECT_TRUE(same_bits(untouched, logits));
  }
};

TEST_F(CudaCrossEntropy, EqualsTheReference) {
  at::manual_seed(1);
  for (const int64_t vocab : {2, 1000, 4099}) {  // rows of the last begin anywhere
    compare<float>(at::randn({2, vocab}) * 4, TokenLoss::kNll);
    compare<BFloat16>((at::randn({2, vocab}) * 4).to(at::kBFloat16), TokenLoss::kDft);
  }
}

/// Ties, logits of minus infinity, and rows that are not finite.
TEST_F(CudaCrossEntropy, KeepsItsCorners) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const at::Tensor logits = at::full({5, 300}, -kInfinity);
  const std::vector<int64_t> labels = {7, 290, 1, 1, 1};
  for (const int64_t at : {7, 290}) data_of<float>(logits)[at] = data_of<float>(logits)[300 + at] = 5;
  logits[2].fill_(1), logits[3].fill_(1), logits[4].fill_(1);
  data_of<float>(logits)[3 * 300 + 200] = kInfinity;
  data_of<float>(logits)[4 * 300 + 200] = std::numeric_limits<float>::quiet_NaN();
  std::vector<TokenStats> stats(5), of_cpu(5);
  cuda::cross_entropy<float>(data_of<float>(logits), labels.data(), 5, 300, TokenLoss::kNll, nullptr, stats.data(),
                             kStream);
  activation_kernels<float>().cross_entropy(data_of<float>(logits), labels.data(), 5, 300, TokenLoss::kNll, nullptr,
                                            of_cpu.data());
  for (size_t row = 0; row < 5; ++row) {
    const bool is_finite = row == 2;  // an infinite logit makes the loss NaN on the CPU, too
    EXPECT_EQ(std::isnan(stats[row].loss), !is_finite);
    EXPECT_EQ(std::isnan(of_cpu[row].loss), !is_finite);
    if (row > 2) continue;
    EXPECT_EQ(stats[row].is_correct, of_cpu[row].is_correct) << row;
    EXPECT_NEAR(stats[row].log_probability, of_cpu[row].log_probability, 1e-6) << row;
    EXPECT_NEAR(stats[row].entropy, of_cpu[row].entropy, 2e-6) << row;
  }
  EXPECT_TRUE(stats[0].is_correct);
  EXPECT_FALSE(stats[1].is_correct) << "of equal logits the first is the prediction";
}

}  // namespace
}  // namespace plumb
