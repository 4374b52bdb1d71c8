// Products of few rows and attention to a cache, by every build of them that this processor can execute.
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>

#include "lib/kernels/decode_kernels.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {

#define PLUMB_DECLARE_DECODE(isa)                        \
  namespace isa {                                        \
  extern const DecodeKernels<float> kFloatDecodeKernels; \
  }
PLUMB_DECLARE_DECODE(generic)
#ifdef PLUMB_HAS_LEVELS
PLUMB_DECLARE_DECODE(x86_64_v3)
PLUMB_DECLARE_DECODE(x86_64_v4)
#endif

namespace {

template <class T>
std::vector<const DecodeKernels<T>*> all_decode_kernels() {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return all_bfloat16_decode_kernels();
  } else {
    std::vector<const DecodeKernels<float>*> found = {&generic::kFloatDecodeKernels};
#ifdef PLUMB_HAS_LEVELS
    if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&x86_64_v3::kFloatDecodeKernels);
    if (__builtin_cpu_supports("x86-64-v4")) found.push_back(&x86_64_v4::kFloatDecodeKernels);
#endif
    return found;
  }
}

template <class T>
class DecodeKernelsTest : public Kernels<T> {};
TYPED_TEST_SUITE(DecodeKernelsTest, ElementTypes);

template <class T>
at::Tensor multiply(const DecodeKernels<T>& kernels, const at::Tensor& x, const at::Tensor& weight,
                    const at::Tensor& bias) {
  const at::Tensor y = at::zeros({x.size(0), weight.size(0) + 3}, x.options());
  kernels.multiply_rows({data_of<T>(x), x.stride(0), data_of<T>(weight), data_of<T>(bias), data_of<T>(y), y.stride(0),
                         x.size(0), weight.size(0), weight.size(1)});
  EXPECT_EQ(y.narrow(1, weight.size(0), 3).abs().sum().template item<float>(), 0);  // writes no other column
  return y.narrow(1, 0, weight.size(0)).clone();
}

// beside and at multiples of the tiles (1, 2, 4 and 16 rows and outputs) and of the vectors (16, 32 elements)
TYPED_TEST(DecodeKernelsTest, ProductsOfFewRowsAreThoseInFloat64) {
  for (const auto* kernels : all_decode_kernels<TypeParam>()) {
    SCOPED_TRACE(kernels->product_instructions);
    for (const int64_t rows : {1, 2, 3, 5, 8, 17, 32, 49})
      for (const int64_t outputs : {1, 7, 16, 33, 64})
        for (const int64_t depth : {1, 16, 31, 32, 33, 200}) {
          SCOPED_TRACE(testing::Message() << rows << " x " << outputs << " x " << depth);
          const at::Tensor x = this->randn({rows, depth + 5}).narrow(1, 0, depth),
                           weight = this->randn({outputs, depth});
          const at::Tensor bias = depth % 2 == 0 ? this->randn({outputs}) : at::Tensor();
          at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
          at::Tensor magnitude = at::matmul(x.abs().to(at::kDouble), weight.abs().to(at::kDouble).t());
          if (bias.defined()) {
            expected = expected + bias.to(at::kDouble);
            magnitude = magnitude + bias.abs().to(at::kDouble);
          }
          const double bound = this->kStored + static_cast<double>(depth + 4) * kFloatRoundoff;
          EXPECT_LE(error_of(multiply(*kernels, x, weight, bias), expected, magnitude), bound);
        }
  }
}

TYPED_TEST(DecodeKernelsTest, ARowHasTheSameBitsInAnyBatchAndPart) {
  for (const auto* kernels : all_decode_kernels<TypeParam>()) {
    SCOPED_TRACE(kernels->product_instructions);
    const at::Tensor x = this->randn({37, 201}), weight = this->randn({75, 201});
    const at::Tensor whole = multiply(*kernels, x, weight, {});
    for (const auto& [begin, end] : {std::pair(0, 1), {3, 5}, {2, 9}, {20, 37}, {5, 35}})
      for (const auto& [first, last] : {std::pair(0, 75), {0, 16}, {16, 75}, {74, 75}}) {
        const at::Tensor part = multiply(*kernels, x.slice(0, begin, end), weight.slice(0, first, last), {});
        EXPECT_TRUE(same_bits(part, whole.slice(0, begin, end).slice(1, first, last).contiguous()));
      }
  }
}

TYPED_TEST(DecodeKernelsTest, AttentionToACacheIsThatInFloat64) {
  constexpr int64_t kPage = 8;
  for (const auto* kernels : all_decode_kernels<TypeParam>())
    for (const int64_t head_dim : {6, 16, 40})
      for (const int64_t queries : {1, 3, 8})
        for (const auto& [first, tokens] : {std::pair<int64_t, int64_t>{0, 1}, {0, 8}, {3, 21}, {16, 17}})
          for (const float cap : {0.0f, 2.0f})
            for (const bool has_sinks : {false, true}) {
              const at::Tensor query = this->randn({queries, head_dim}), pages = this->randn({3, 2, kPage, head_dim});
              const at::Tensor sinks = at::randn({queries});
              std::vector<const TypeParam*> pointers;
              for (int64_t page = 0; page < 3; ++page) pointers.push_back(data_of<TypeParam>(pages[page]));
              const at::Tensor out = at::zeros({queries, head_dim}, query.options());
              CacheAttention<TypeParam> attention{data_of<TypeParam>(query),
                                                  queries,
                                                  head_dim,
                                                  pointers.data(),
                                                  kPage,
                                                  kPage * head_dim,
                                                  first,
                                                  tokens,
                                                  0.5f,
                                                  cap,
                                                  has_sinks ? data_of<float>(sinks) : nullptr,
                                                  nullptr,
                                                  data_of<TypeParam>(out)};
              std::vector<float> scratch(attention.scratch_floats());
              attention.scratch = scratch.data();
              kernels->attend(attention);

              const auto cached = [&](int64_t which) {  // [tokens, head_dim]
                return pages.select(1, which).reshape({3 * kPage, head_dim}).slice(0, first, tokens).to(at::kDouble);
              };
              at::Tensor scores = at::matmul(query.to(at::kDouble), cached(0).t()) * 0.5;
              if (cap > 0) scores = at::tanh(scores / cap) * cap;
              if (has_sinks) scores = at::cat({scores, sinks.to(at::kDouble).unsqueeze(1)}, 1);
              const at::Tensor shares = at::softmax(scores, 1).slice(1, 0, tokens - first);
              const at::Tensor magnitude = at::matmul(shares, cached(1).abs());
              EXPECT_LE(error_of(out, at::matmul(shares, cached(1)), magnitude), this->kStored + 2e-6);
            }
}

}  // namespace
}  // namespace plumb
