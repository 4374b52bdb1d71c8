#include "lib/nn/matmul.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <string_view>

#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

/// First element of a part when `size` elements are divided into `num_parts` at multiples of `unit`.
int64_t part_begin(int64_t size, int64_t unit, int64_t part, int64_t num_parts) {
  return std::min(size, (size + unit - 1) / unit * part / num_parts * unit);
}

/// Divides the columns among threads, so that each column is packed once. If there are too few columns, also divides
/// the rows, into as few bands as suffice.
void multiply_on_threads(const FloatProduct& whole) {
  constexpr int64_t kColumnPartsOfThread = 8;
  const int64_t num_threads = at::get_num_threads();
  const int64_t column_parts = (whole.num_columns + kProductPartColumns - 1) / kProductPartColumns;
  const int64_t most_bands = std::min(num_threads, (whole.num_rows + kProductPartRows - 1) / kProductPartRows);
  int64_t num_bands = 1;
  for (int64_t n = 2; n <= most_bands && column_parts * num_bands < kColumnPartsOfThread * num_threads; ++n)
    if (num_threads % n == 0) num_bands = n;
  const int64_t threads_of_band = num_threads / num_bands;
  at::parallel_for(0, num_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t band = i / threads_of_band, columns = i % threads_of_band;
      const auto first_row = [&](int64_t b) { return part_begin(whole.num_rows, kProductPartRows, b, num_bands); };
      const auto first_column = [&](int64_t c) {
        return part_begin(whole.num_columns, kProductPartColumns, c, threads_of_band);
      };
      FloatProduct part = whole;
      part.a += first_row(band) * whole.a_row_stride;
      part.b += first_column(columns) * whole.b_column_stride;
      part.c += first_row(band) * whole.c_row_stride + first_column(columns);
      part.num_rows = first_row(band + 1) - first_row(band);
      part.num_columns = first_column(columns + 1) - first_column(columns);
      float_kernels().multiply(part);
    }
  });
}

void multiply(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds) {
  // the generic build of the kernel is slower than LibTorch
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

void matmul_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, false);
}

void matmul_accumulate(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, true);
}

}  // namespace plumb
