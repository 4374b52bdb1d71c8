#include "lib/model/product.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>

#include <string_view>

#include "lib/model/tensor_kernels.hpp"

namespace plumb {

namespace {

/// Threads share columns, of which each is packed once; where these are few, rows.
void multiply_on_threads(const FloatProduct& whole) {
  constexpr int64_t kColumns = 32, kRows = 12, kPartsOfThread = 8;
  const int64_t column_parts = (whole.num_columns + kColumns - 1) / kColumns;
  if (column_parts >= kPartsOfThread * at::get_num_threads()) {
    at::parallel_for(0, column_parts, 1, [&](int64_t begin, int64_t end) {
      FloatProduct part = whole;
      part.b += begin * kColumns * whole.b_column_stride;
      part.c += begin * kColumns;
      part.num_columns = std::min(end * kColumns, whole.num_columns) - begin * kColumns;
      float_kernels().multiply(part);
    });
    return;
  }
  at::parallel_for(0, (whole.num_rows + kRows - 1) / kRows, 1, [&](int64_t begin, int64_t end) {
    FloatProduct part = whole;
    part.a += begin * kRows * whole.a_row_stride;
    part.c += begin * kRows * whole.c_row_stride;
    part.num_rows = std::min(end * kRows, whole.num_rows) - begin * kRows;
    float_kernels().multiply(part);
  });
}

void multiply(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds) {
  // the generic copy's tiles are too small to compete
  const bool is_ours_faster = std::string_view(kernel_instruction_set()) != "generic";
  if (!is_ours_faster || a.scalar_type() != at::kFloat || a.stride(1) != 1 || out.stride(1) != 1) {
    out.addmm_(a, b, /*beta=*/adds ? 1 : 0, /*alpha=*/scale);
    return;
  }
  check(out.size(0) == a.size(0) && out.size(1) == b.size(1) && a.size(1) == b.size(0), "factors of a product fit");
  multiply_on_threads({data_of<float>(a), a.stride(0), data_of<float>(b), b.stride(0), b.stride(1), data_of<float>(out),
                       out.stride(0), out.size(0), out.size(1), a.size(1), static_cast<float>(scale), adds});
}

}  // namespace

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(out, a, b, 1, false);
  return out;
}

void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, false);
}

void add_product(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, true);
}

}  // namespace plumb
