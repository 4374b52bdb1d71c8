#include "lib/nn/matmul.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <string_view>

#include "lib/kernels/product_kernels.hpp"
#include "lib/nn/product_cuda.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

namespace {

/// First element of a part when `size` elements are divided into `num_parts` at multiples of `unit`.
int64_t part_begin(int64_t size, int64_t unit, int64_t part, int64_t num_parts) {
  return std::min(size, (size + unit - 1) / unit * part / num_parts * unit);
}

/// Divides the columns among threads, so that each column is packed once. If there are too few columns, also divides
/// the rows, into as few bands as suffice. Product: FloatProduct or a PairProduct.
template <class Product>
void multiply_on_threads(const Product& whole, void (*multiply)(const Product&), int64_t row_unit,
                         int64_t column_unit) {
  constexpr int64_t kColumnPartsOfThread = 8;
  const int64_t num_threads = at::get_num_threads();
  const int64_t column_parts = (whole.num_columns + column_unit - 1) / column_unit;
  const int64_t most_bands = std::min(num_threads, (whole.num_rows + row_unit - 1) / row_unit);
  int64_t num_bands = 1;
  for (int64_t n = 2; n <= most_bands && column_parts * num_bands < kColumnPartsOfThread * num_threads; ++n)
    if (num_threads % n == 0) num_bands = n;
  const int64_t threads_of_band = num_threads / num_bands;
  at::parallel_for(0, num_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t band = i / threads_of_band, columns = i % threads_of_band;
      const auto first_row = [&](int64_t b) { return part_begin(whole.num_rows, row_unit, b, num_bands); };
      const auto first_column = [&](int64_t c) {
        return part_begin(whole.num_columns, column_unit, c, threads_of_band);
      };
      Product part = whole;
      part.a += first_row(band) * whole.a_row_stride;
      part.b += first_column(columns) * whole.b_column_stride;
      part.c += first_row(band) * whole.c_row_stride + first_column(columns);
      part.num_rows = first_row(band + 1) - first_row(band);
      part.num_columns = first_column(columns + 1) - first_column(columns);
      multiply(part);
    }
  });
}

void multiply_floats(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds) {
  const FloatProduct whole = {data_of<float>(a),         a.stride(0),   data_of<float>(b), b.stride(0), b.stride(1),
                              data_of<float>(out),       out.stride(0), out.size(0),       out.size(1), a.size(1),
                              static_cast<float>(scale), adds};
  multiply_on_threads(whole, float_kernels().multiply, kProductPartRows, kProductPartColumns);
}

template <class Out>
void multiply_pairs(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds,
                    void (*multiply)(const PairProduct<Out>&)) {
  const PairProduct<Out> whole = {data_of<BFloat16>(a),
                                  a.stride(0),
                                  a.stride(1),
                                  data_of<BFloat16>(b),
                                  b.stride(0),
                                  b.stride(1),
                                  data_of<Out>(out),
                                  out.stride(0),
                                  out.size(0),
                                  out.size(1),
                                  a.size(1),
                                  static_cast<float>(scale),
                                  adds};
  multiply_on_threads(whole, multiply, kPairPartRows, kPairPartColumns);
}

void multiply_in_libtorch(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds) {
  if (out.scalar_type() == a.scalar_type()) {
    out.addmm_(a, b, /*beta=*/adds ? 1 : 0, /*alpha=*/scale);
  } else if (adds) {
    out.add_(at::mm(a, b), scale);
  } else {
    out.copy_(at::mm(a, b)).mul_(scale);
  }
}

void multiply(at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale, bool adds) {
  if (!out.is_cpu()) return multiply_cuda(out, a, b, scale, adds ? out : at::Tensor());
  check(out.size(0) == a.size(0) && out.size(1) == b.size(1) && a.size(1) == b.size(0), "factors of a product fit");
  const bool is_for_kernels = out.stride(1) == 1;
  const PairKernels* const pairs = pair_kernels();
  // the generic build of the kernel is slower than LibTorch
  const bool has_float_kernel = std::string_view(kernel_instruction_set()) != "generic";
  if (is_for_kernels && a.scalar_type() == at::kBFloat16 && pairs != nullptr) {
    if (out.scalar_type() == at::kFloat) return multiply_pairs(out, a, b, scale, adds, pairs->multiply_to_float);
    return multiply_pairs(out, a, b, scale, adds, pairs->multiply);
  }
  if (is_for_kernels && a.scalar_type() == at::kFloat && a.stride(1) == 1 && has_float_kernel)
    return multiply_floats(out, a, b, scale, adds);
  multiply_in_libtorch(out, a, b, scale, adds);
}

}  // namespace

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(out, a, b, 1, false);
  return out;
}

bool has_pair_products() { return pair_kernels() != nullptr; }

void matmul_into(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, false);
}

void matmul_accumulate(at::Tensor out, const at::Tensor& a, const at::Tensor& b, double scale) {
  multiply(out, a, b, scale, true);
}

void matmul_plus(at::Tensor out, const at::Tensor& a, const at::Tensor& b, const at::Tensor& addend) {
  if (!out.is_cpu()) return multiply_cuda(out, a, b, 1, addend);
  out.copy_(addend);
  multiply(out, a, b, 1, true);
}

}  // namespace plumb
