// Products of CUDA tensors on the fake GPU: what is told to cuBLASLt of matrices, addends and alignment, which
// algorithm is used, in which order of streams, and how errors read.
#include "lib/nn/product_cuda.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "lib/base/check.hpp"
#include "lib/device/events.hpp"
#include "lib/kernels/reference.hpp"
#include "lib/nn/compute_stream.hpp"
#include "lib/nn/cublas_lt.hpp"
#include "tests/cuda_fake/fake.hpp"
#include "tests/cuda_fake/fake_cublas_lt.hpp"

namespace plumb {

namespace {
cudaStream_t current_stream = nullptr;
}
cudaStream_t compute_stream() { return current_stream; }

namespace {

class ProductCuda : public testing::Test {
 protected:
  ProductCuda() {
    fake::put_tensors_on_device();
    fake::start(1);
    fake::cublas_lt() = {};
    stream_.emplace(Priority::kLow);
    library_ = std::make_unique<CublasLt>();
    current_stream = stream_->get();
    fake::compute_on(current_stream);
    at::manual_seed(1);
  }

  /// All that was wrong.
  std::string end() {
    library_.reset();
    stream_.reset();
    std::string errors;
    for (const std::string& error : fake::end()) errors += error + "\n";
    return errors;
  }
  void TearDown() override { EXPECT_EQ(end(), ""); }

  void multiply(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale = 1,
                const at::Tensor& addend = {}) {
    multiply_with(*library_, out, a, b, scale, addend);
  }

  /// The message of a product that fails.
  std::string failure(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
    try {
      multiply(out, a, b);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitInternal);
      return error.what();
    }
    return "no error";
  }

  std::optional<Stream> stream_;
  std::unique_ptr<CublasLt> library_;
};

/// A matrix of this shape whose elements are laid out in one of five ways.
enum Memory { kRows, kColumns, kPartOfRows, kPartOfColumns, kNeither };
constexpr Memory kMemories[] = {kRows, kColumns, kPartOfRows, kPartOfColumns, kNeither};
at::Tensor matrix(int64_t rows, int64_t columns, Memory memory, at::ScalarType dtype) {
  const auto randn = [&](at::IntArrayRef shape) { return at::randn(shape).to(dtype); };
  switch (memory) {
    case kRows:
      return randn({rows, columns});
    case kColumns:
      return randn({columns, rows}).t();
    case kPartOfRows:
      return randn({rows, columns + 11}).narrow(1, 3, columns);
    case kPartOfColumns:
      return randn({columns, rows + 8}).narrow(1, 4, rows).t();
    default:
      return randn({rows, columns, 3}).select(2, 1);
  }
}

at::Tensor exact(const at::Tensor& a, const at::Tensor& b, double scale) {
  return a.to(at::kDouble).mm(b.to(at::kDouble)).mul_(scale);
}

TEST_F(ProductCuda, EqualsTheReferenceInEveryLayout) {
  constexpr int64_t kT = 9, kDepth = 13, kOutputs = 6;
  for (const auto& [factors, of_out] : {std::pair(at::kFloat, at::kFloat), std::pair(at::kBFloat16, at::kBFloat16),
                                        std::pair(at::kBFloat16, at::kFloat)})
    for (const Memory of_a : kMemories)
      for (const Memory of_b : kMemories)
        for (const Memory layout_of_out : kMemories) {
          const at::Tensor a = matrix(kT, kDepth, of_a, factors), b = matrix(kDepth, kOutputs, of_b, factors);
          const double tolerance = of_out == at::kFloat ? 0x1p-23 : 0x1p-8;
          const at::Tensor out = matrix(kT, kOutputs, layout_of_out, of_out);
          const at::Tensor before = out.clone();
          multiply(out, a, b, 0.5);
          EXPECT_LE(reference::relative_distance(out, exact(a, b, 0.5)), tolerance);
          out.copy_(before);
          multiply(out, a, b, 0.5, out);  // += in place
          EXPECT_LE(reference::relative_distance(out, exact(a, b, 0.5) + before), tolerance);
          const at::Tensor addend = matrix(kT, kOutputs, of_a, of_out), bias = at::randn({kOutputs}).to(of_out);
          const at::Tensor kept = addend.clone();
          multiply(out, a, b, 1, addend);
          EXPECT_LE(reference::relative_distance(out, exact(a, b, 1) + addend), tolerance);
          EXPECT_TRUE(addend.equal(kept));
          multiply(out, a, b, 1, bias);
          EXPECT_LE(reference::relative_distance(out, exact(a, b, 1) + bias), tolerance);
        }
}

TEST_F(ProductCuda, HasSizesOfOneAndZero) {
  for (const auto& [rows, depth, columns] :
       {std::array<int64_t, 3>{1, 7, 5}, {5, 1, 7}, {7, 5, 1}, {1, 1, 1}, {0, 3, 2}, {3, 0, 2}, {3, 2, 0}})
    for (const Memory memory : kMemories) {
      const at::Tensor a = matrix(rows, depth, memory, at::kBFloat16),
                       b = matrix(depth, columns, memory, at::kBFloat16);
      const at::Tensor out = at::full({rows, columns}, 3.0), bias = at::randn({columns});
      multiply(out, a, b, 1, out);
      if (out.numel() > 0) {
        EXPECT_LE(reference::relative_distance(out, exact(a, b, 1) + 3), 0x1p-23);
        multiply(out, a, b, 1, bias);
        EXPECT_LE(reference::relative_distance(out, exact(a, b, 1) + bias), 0x1p-23);
        multiply(out, a, b);
        EXPECT_LE((out - exact(a, b, 1)).abs().max().item<double>(), 1e-5);
      }
    }
}

TEST_F(ProductCuda, AsksOnceForTheAlgorithmOfAShape) {
  const at::Tensor a = matrix(8, 16, kRows, at::kBFloat16), b = matrix(16, 4, kColumns, at::kBFloat16),
                   out = matrix(8, 4, kRows, at::kFloat), bias = at::randn({2, 4});
  const auto num_heuristics = [&](auto run) {
    const int64_t before = fake::cublas_lt().num_heuristics;
    run();
    return fake::cublas_lt().num_heuristics - before;
  };
  EXPECT_EQ(num_heuristics([&] { multiply(out, a, b); }), 1);
  EXPECT_EQ(num_heuristics([&] { multiply(at::empty_like(out), a.clone(), b, 0.5); }), 0);  // other memory and factor
  EXPECT_EQ(num_heuristics([&] { multiply(out, a, b, 1, out); }), 0);
  EXPECT_EQ(num_heuristics([&] { multiply(out, a, b, 1, at::zeros_like(out)); }), 1);  // not in place
  EXPECT_EQ(num_heuristics([&] { multiply(out, a, b, 1, bias[0]); }), 1);
  EXPECT_EQ(num_heuristics([&] { multiply(out.narrow(0, 0, 4), a.narrow(0, 0, 4), b); }), 1);
  EXPECT_EQ(num_heuristics([&] { multiply(out, matrix(8, 16, kPartOfRows, at::kBFloat16), b); }), 1);
  const at::Tensor other_bias = bias[1].clone();
  EXPECT_EQ(num_heuristics([&] { multiply(out, a, b, 1, other_bias); }), 0);  // and its own elements are added
  EXPECT_LE(reference::relative_distance(out, exact(a, b, 1) + other_bias), 0x1p-23);
}

TEST_F(ProductCuda, RunsInTheOrderOfItsStream) {
  for (const bool waits : {true, false}) {
    const at::Tensor a = matrix(8, 16, kRows, at::kFloat), b = matrix(16, 4, kRows, at::kFloat),
                     out = matrix(8, 4, kRows, at::kFloat);
    const Stream other(Priority::kHigh);
    Event arrived;
    cudaMemsetAsync(b.data_ptr(), 0, 16 * 4 * sizeof(float), other.get());  // as a gather of weights would
    arrived.record(other.get());
    if (waits) arrived.hold(compute_stream());
    multiply(out, a, b);
    if (waits) {
      EXPECT_EQ(out.abs().max().item<float>(), 0);
    }
    other.synchronize();
    if (waits) continue;
    const std::string errors = end();
    EXPECT_NE(errors.find("product [4, 8, 16] on the compute stream reads bytes that memset on stream"),
              std::string::npos)
        << errors;
  }
  fake::start(1);  // for TearDown
}

TEST_F(ProductCuda, NamesShapeAndStatusOfWhatFails) {
  const at::Tensor a = matrix(8, 16, kRows, at::kBFloat16), b = matrix(16, 4, kColumns, at::kBFloat16),
                   out = matrix(8, 4, kRows, at::kFloat);
  const std::string shape =
      "the GPU: cannot multiply [8, 16] x [16, 4], bfloat16 to float32, from rows of 16 and columns of 16 to rows of "
      "4: cuBLASLt 130400: ";
  fake::cublas_lt().finds_nothing = true;
  EXPECT_EQ(failure(out, a, b), shape + "CUBLAS_STATUS_NOT_SUPPORTED");
  fake::cublas_lt() = {.heuristic_status = CUBLAS_STATUS_INVALID_VALUE};
  EXPECT_EQ(failure(out, a, b), shape + "CUBLAS_STATUS_INVALID_VALUE");
  fake::cublas_lt() = {.product_status = CUBLAS_STATUS_EXECUTION_FAILED};
  EXPECT_EQ(failure(out, a, b), shape + "CUBLAS_STATUS_EXECUTION_FAILED");
  fake::cublas_lt() = {};
  EXPECT_EQ(failure(out, a, b), "no error");
}

}  // namespace
}  // namespace plumb
