// The products of float and of bfloat16 matrices, by every compiled copy and on threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "lib/kernels/product_kernels.hpp"
#include "lib/nn/matmul.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {
namespace {

struct Shape {
  int64_t num_rows, num_columns, depth;
};
// below, at and beside multiples of the tiles (3, 6, 12 rows; 16, 32 columns) and of the blocks (144 x 256, 512 deep)
constexpr Shape kShapes[] = {{1, 1, 1},      {3, 16, 5},    {5, 17, 16},  {12, 32, 512},  {13, 33, 513},
                             {25, 49, 1200}, {145, 31, 17}, {7, 289, 33}, {149, 20, 1021}};

at::Tensor transposed_randn(int64_t rows, int64_t columns) { return at::randn({columns, rows}).t(); }
/// Neither rows nor columns contiguous.
at::Tensor scattered_randn(int64_t rows, int64_t columns) { return at::randn({rows, columns, 2}).select(2, 1); }

FloatProduct product_of(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, float scale, bool adds) {
  return {data_of<float>(a), a.stride(0), data_of<float>(b), b.stride(0), b.stride(1), data_of<float>(c),
          c.stride(0),       a.size(0),   b.size(1),         a.size(1),   scale,       adds};
}

TEST(Multiply, IsTheProductInFloat64OfAnyShapeAndStrides) {
  at::manual_seed(1);
  for (const auto& [rows, columns, depth] : kShapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns << " x " << depth);
    // of the last shape, rows are whole pages apart
    const at::Tensor a = at::randn({rows, depth + 3}).narrow(1, 2, depth);
    for (const at::Tensor& b :
         {at::randn({depth, columns}), transposed_randn(depth, columns), scattered_randn(depth, columns)}) {
      for (const bool adds : {false, true}) {
        const at::Tensor start = at::randn({rows, columns + 2});
        const double scale = adds ? 1.0 : -0.5;
        const at::Tensor wide = scale * at::mm(a.to(at::kDouble), b.to(at::kDouble));
        const at::Tensor magnitude = at::mm(a.abs().to(at::kDouble), b.abs().to(at::kDouble));
        for (const KernelCopy& copy : copies()) {
          SCOPED_TRACE(copy.name);
          const at::Tensor around = start.clone(), c = around.narrow(1, 1, columns);
          copy.plain->multiply(product_of(a, b, c, static_cast<float>(scale), adds));
          const at::Tensor before = start.narrow(1, 1, columns).to(at::kDouble);
          const at::Tensor expected = adds ? before + wide : wide;
          EXPECT_LT(error_of(c, expected, magnitude + before.abs()), 2 * kFloatRoundoff * std::sqrt(depth + 4.0));
          EXPECT_TRUE(around.select(1, 0).equal(start.select(1, 0)));
          EXPECT_TRUE(around.select(1, columns + 1).equal(start.select(1, columns + 1)));
        }
      }
    }
  }
}

TEST(Multiply, PartsOfRowsAndColumnsHaveTheBitsOfTheWhole) {
  at::manual_seed(2);
  constexpr int64_t kRows = 50, kColumns = 100, kDepth = 900;
  const at::Tensor a = at::randn({kRows, kDepth}), b = transposed_randn(kDepth, kColumns);
  for (const KernelCopy& copy : copies()) {
    SCOPED_TRACE(copy.name);
    const at::Tensor whole = floats({kRows, kColumns});
    copy.plain->multiply(product_of(a, b, whole, 1, false));
    for (const int64_t row : {1, 12, 25})
      for (const int64_t column : {1, 16, 37, 64}) {
        const at::Tensor part = floats({kRows - row, kColumns - column});
        copy.plain->multiply(
            product_of(a.narrow(0, row, kRows - row), b.narrow(1, column, kColumns - column), part, 1, false));
        EXPECT_TRUE(part.equal(whole.narrow(0, row, kRows - row).narrow(1, column, kColumns - column)));
      }
  }
}

TEST(Multiply, CopiesThatFuseAdditionsAgreeToTheBit) {
  at::manual_seed(3);
  const at::Tensor a = at::randn({29, 500}), b = at::randn({500, 75});
  std::vector<at::Tensor> results;
  for (const KernelCopy& copy : copies()) {
    if (std::string_view(copy.name) == "generic") continue;
    results.push_back(floats({29, 75}));
    copy.plain->multiply(product_of(a, b, results.back(), 1, false));
  }
  if (results.size() < 2) GTEST_SKIP() << "this processor runs fewer than two such copies";
  for (const at::Tensor& result : results) EXPECT_TRUE(result.equal(results.front()));
}

TEST(Multiply, PassesOnWhatIsNotANumber) {
  const at::Tensor a = floats({13, 40}).fill_(1), b = floats({40, 33}).fill_(1);
  a[5][7] = std::numeric_limits<float>::quiet_NaN();
  b[3][32] = std::numeric_limits<float>::infinity();
  for (const KernelCopy& copy : copies()) {
    const at::Tensor c = floats({13, 33});
    copy.plain->multiply(product_of(a, b, c, 1, false));
    EXPECT_TRUE(c[5].isnan().all().item<bool>());
    EXPECT_EQ(c.isnan().sum().item<int64_t>(), 33);
    EXPECT_EQ(c.isinf().sum().item<int64_t>(), 12);
  }
}

template <class Out>
void multiply(const PairKernels& kernels, const at::Tensor& a, const at::Tensor& b, const at::Tensor& c, float scale,
              bool adds) {
  const PairProduct<Out> product = {data_of<BFloat16>(a),
                                    a.stride(0),
                                    a.stride(1),
                                    data_of<BFloat16>(b),
                                    b.stride(0),
                                    b.stride(1),
                                    data_of<Out>(c),
                                    c.stride(0),
                                    a.size(0),
                                    b.size(1),
                                    a.size(1),
                                    scale,
                                    adds};
  if constexpr (std::is_same_v<Out, float>) {
    kernels.multiply_to_float(product);
  } else {
    kernels.multiply(product);
  }
}

template <class Out>
class PairProducts : public Kernels<Out> {};
TYPED_TEST_SUITE(PairProducts, ElementTypes);

// below, at and beside multiples of the tiles (12, 16, 32 rows; 32 columns; 32 deep) and of the blocks (320 columns,
// 480 rows, 512 deep)
constexpr Shape kPairShapes[] = {{1, 1, 1}, {12, 32, 32},   {13, 31, 33},  {32, 64, 512},  {17, 40, 96},  {31, 33, 513},
                                 {5, 7, 2}, {33, 650, 100}, {490, 9, 512}, {490, 20, 520}, {20, 330, 520}};

TYPED_TEST(PairProducts, AreThoseInFloat64OfAnyShapeAndStrides) {
  at::manual_seed(6);
  const double roundoff = this->kStored;
  for (const PairKernels& kernels : all_pair_kernels())
    for (const auto& [rows, columns, depth] : kPairShapes) {
      SCOPED_TRACE(testing::Message() << kernels.instructions << " " << rows << " x " << columns << " x " << depth);
      const at::Tensor as[] = {at::randn({rows, depth + 3}).narrow(1, 2, depth), transposed_randn(rows, depth),
                               scattered_randn(rows, depth)};
      const at::Tensor bs[] = {at::randn({depth, columns}), transposed_randn(depth, columns),
                               scattered_randn(depth, columns)};
      for (size_t i = 0; i < std::size(as) * std::size(bs); ++i) {
        if (i % 4 != 0 && rows * columns * depth > 1 << 18) continue;  // each stride once
        const bool adds = i % 2 == 0;
        const at::Tensor a = as[i / 3].to(at::kBFloat16), b = bs[i % 3].to(at::kBFloat16);
        const at::Tensor start = at::randn({rows, columns + 2}).to(this->kDtype);
        const double scale = adds ? 1.0 : -0.5;
        const at::Tensor wide_a = a.to(at::kDouble), wide_b = b.to(at::kDouble);
        const at::Tensor before = start.narrow(1, 1, columns).to(at::kDouble) * (adds ? 1 : 0);
        const at::Tensor expected = before + scale * at::mm(wide_a, wide_b);
        const at::Tensor magnitude = before.abs() + at::mm(wide_a.abs(), wide_b.abs());
        const at::Tensor around = start.clone(), c = around.narrow(1, 1, columns);
        multiply<TypeParam>(kernels, a, b, c, static_cast<float>(scale), adds);
        const at::Tensor allowed =
            magnitude * (2 * kFloatRoundoff * std::sqrt(static_cast<double>(depth) + 4)) + expected.abs() * roundoff;
        EXPECT_TRUE(((c.to(at::kDouble) - expected).abs() <= allowed).all().item<bool>());
        EXPECT_TRUE(around.select(1, 0).equal(start.select(1, 0)));
        EXPECT_TRUE(around.select(1, columns + 1).equal(start.select(1, columns + 1)));
      }
    }
}

TYPED_TEST(PairProducts, OfPartsOfRowsAndColumnsHaveTheBitsOfTheWhole) {
  at::manual_seed(7);
  constexpr int64_t kRows = 100, kColumns = 400;
  for (const int64_t depth : {900, 288})
    for (const PairKernels& kernels : all_pair_kernels()) {
      SCOPED_TRACE(kernels.instructions);
      const at::Tensor a = at::randn({kRows, depth}).to(at::kBFloat16);
      const at::Tensor b = at::randn({kColumns, depth}).to(at::kBFloat16).t();
      const at::Tensor whole = at::zeros({kRows, kColumns}, at::TensorOptions().dtype(this->kDtype));
      multiply<TypeParam>(kernels, a, b, whole, 1, false);
      for (const int64_t row : {1, 12, 36})
        for (const int64_t column : {1, 32, 90}) {
          const at::Tensor part = at::zeros({kRows - row, kColumns - column}, whole.options());
          multiply<TypeParam>(kernels, a.narrow(0, row, kRows - row), b.narrow(1, column, kColumns - column), part, 1,
                              false);
          EXPECT_TRUE(part.equal(whole.narrow(0, row, kRows - row).narrow(1, column, kColumns - column)));
        }
    }
}

TYPED_TEST(PairProducts, PassOnWhatIsNotANumberAndReadNothingElse) {
  for (const PairKernels& kernels : all_pair_kernels()) {
    // what surrounds the factors is not a number
    const at::Tensor around_a = at::full({20, 50}, std::numeric_limits<float>::quiet_NaN()).to(at::kBFloat16);
    const at::Tensor around_b = at::full({50, 50}, std::numeric_limits<float>::quiet_NaN()).to(at::kBFloat16);
    const at::Tensor a = around_a.narrow(0, 1, 13).narrow(1, 3, 40).fill_(1);
    const at::Tensor b = around_b.narrow(0, 1, 40).narrow(1, 3, 33).fill_(1);
    a[5][7] = std::numeric_limits<float>::quiet_NaN();
    b[3][32] = std::numeric_limits<float>::infinity();
    for (const bool is_transposed : {false, true}) {
      const at::Tensor c =
          at::zeros({is_transposed ? 33 : 13, is_transposed ? 13 : 33}, at::TensorOptions().dtype(this->kDtype));
      if (is_transposed) {
        multiply<TypeParam>(kernels, b.t(), a.t(), c, 1, false);
      } else {
        multiply<TypeParam>(kernels, a, b, c, 1, false);
      }
      const at::Tensor result = is_transposed ? c.t() : c;
      EXPECT_TRUE(result[5].isnan().all().template item<bool>());
      EXPECT_EQ(result.isnan().sum().template item<int64_t>(), 33);
      EXPECT_EQ(result.isinf().sum().template item<int64_t>(), 12);
    }
  }
}

class Products : public testing::Test {
 protected:
  void TearDown() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

TEST_F(Products, HaveTheSameBitsOnAnyNumberOfThreads) {
  at::manual_seed(4);
  for (const auto& [rows, columns, depth, dtype] :
       {std::tuple(100, 50, 70, at::kFloat), std::tuple(10, 2000, 70, at::kFloat), std::tuple(30, 1000, 70, at::kFloat),
        std::tuple(300, 50, 600, at::kBFloat16), std::tuple(30, 1000, 70, at::kBFloat16)}) {
    if (dtype == at::kBFloat16 && !has_pair_products()) continue;
    const at::Tensor a = at::randn({rows, depth}).to(dtype), b = transposed_randn(depth, columns).to(dtype);
    at::set_num_threads(1);
    const at::Tensor expected = product(a, b);
    for (const int threads : {2, 3, 6, 7}) {
      at::set_num_threads(threads);
      EXPECT_TRUE(product(a, b).equal(expected)) << threads << " threads";
    }
  }
}

TEST_F(Products, AddAndScaleInBothDtypesAndWithTransposedFactors) {
  at::manual_seed(5);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const double tolerance = dtype == at::kFloat ? 1e-5 : 2e-2;
    for (const at::Tensor& a : {at::randn({20, 30}), transposed_randn(20, 30)}) {
      const at::Tensor x = a.to(dtype), y = at::randn({30, 40}).to(dtype), start = at::randn({20, 40}).to(dtype);
      const at::Tensor expected = at::mm(x.to(at::kDouble), y.to(at::kDouble));
      const at::Tensor out = at::empty({20, 40}, start.options()), sum = start.clone();
      matmul_into(out, x, y, 0.25);
      matmul_accumulate(sum, x, y, 0.25);
      EXPECT_TRUE(product(x, y).to(at::kDouble).allclose(expected, tolerance, tolerance));
      EXPECT_TRUE(out.to(at::kDouble).allclose(0.25 * expected, tolerance, tolerance));
      EXPECT_TRUE(sum.to(at::kDouble).allclose(start.to(at::kDouble) + 0.25 * expected, tolerance, tolerance));
      const at::Tensor wide = at::empty({20, 40});  // float32 of either factors
      matmul_into(wide, x, y);
      matmul_accumulate(wide, x, y);
      EXPECT_TRUE(wide.to(at::kDouble).allclose(2 * expected, tolerance, tolerance));
    }
  }
}

TEST_F(Products, RefuseFactorsThatDoNotFit) { EXPECT_THROW(product(floats({2, 3}), floats({4, 5})), std::exception); }

}  // namespace
}  // namespace plumb
