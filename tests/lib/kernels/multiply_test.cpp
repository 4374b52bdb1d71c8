// The product of float matrices, by every compiled copy and on threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string_view>

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

class Products : public testing::Test {
 protected:
  void TearDown() override { at::set_num_threads(threads_); }

 private:
  int threads_ = at::get_num_threads();
};

TEST_F(Products, HaveTheSameBitsOnAnyNumberOfThreads) {
  at::manual_seed(4);
  for (const auto& [rows, columns, depth] : {Shape{100, 50, 70}, Shape{10, 2000, 70}, Shape{30, 1000, 70}}) {
    const at::Tensor a = at::randn({rows, depth}), b = transposed_randn(depth, columns);
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
    }
  }
}

TEST_F(Products, RefuseFactorsThatDoNotFit) { EXPECT_THROW(product(floats({2, 3}), floats({4, 5})), std::exception); }

}  // namespace
}  // namespace plumb
