// Tensors as matrices of cuBLASLt. Nothing here knows what a device is, so that tests run it on CPU tensors with a
// stand-in for the library (tests/cuda_fake).
#include "lib/nn/product_cuda.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "lib/base/check.hpp"
#include "lib/nn/compute_stream.hpp"
#include "lib/nn/cublas_lt.hpp"

namespace plumb {

namespace {

/// Whether one row's elements are contiguous, and rows do not overlap.
bool has_rows(const at::Tensor& x) {
  return (x.stride(1) == 1 || x.size(1) == 1) && (x.stride(0) >= x.size(1) || x.size(0) == 1);
}

LtMatrix rows_of(const at::Tensor& x) { return {x.const_data_ptr(), x.size(0) == 1 ? x.size(1) : x.stride(0), false}; }

/// A factor as it is, or a copy if neither rows nor columns are contiguous: those of single experts alternate.
at::Tensor with_rows_or_columns(const at::Tensor& x) { return has_rows(x) || has_rows(x.t()) ? x : x.contiguous(); }

LtMatrix factor_of(const at::Tensor& x) {
  LtMatrix matrix = rows_of(has_rows(x) ? x : x.t());
  matrix.is_transposed = !has_rows(x);
  return matrix;
}

LtType type_of(const at::Tensor& x) {
  check(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "factors are float32 or bfloat16");
  return x.scalar_type() == at::kFloat ? LtType::kFloat : LtType::kBFloat16;
}

}  // namespace

void multiply_with(CublasLt& library, const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale,
                   const at::Tensor& addend) {
  check(out.size(0) == a.size(0) && out.size(1) == b.size(1) && a.size(1) == b.size(0), "factors of a product fit");
  check(a.scalar_type() == b.scalar_type() && (!addend.defined() || addend.scalar_type() == out.scalar_type()),
        "factors of a product have one type, and so have its output and what is added");
  if (out.numel() == 0) return;
  if (a.size(1) == 0) {
    if (!addend.defined())
      at::Tensor(out).zero_();
    else if (!addend.is_same(out))
      at::Tensor(out).copy_(addend);
    return;
  }
  if (!has_rows(out)) {
    const at::Tensor rows = at::empty(out.sizes(), out.options());
    multiply_with(library, rows, a, b, scale, addend);
    at::Tensor(out).copy_(rows);
    return;
  }
  const bool has_bias = addend.defined() && addend.dim() == 1, has_addend = addend.defined() && !has_bias;
  const at::Tensor a_rows = with_rows_or_columns(a), b_rows = with_rows_or_columns(b);
  const at::Tensor added = has_bias || (has_addend && !has_rows(addend)) ? addend.contiguous() : addend;
  check(!has_addend || added.sizes() == out.sizes(), "what is added to a product has its shape");
  check(!has_bias || added.size(0) == out.size(1), "a bias has an element for each column");
  library.multiply({.num_rows = out.size(0),
                    .num_columns = out.size(1),
                    .depth = a.size(1),
                    .a = factor_of(a_rows),
                    .b = factor_of(b_rows),
                    .factors = type_of(a),
                    .scale = static_cast<float>(scale),
                    .addend = has_addend ? rows_of(added) : LtMatrix{},
                    .bias = has_bias ? added.const_data_ptr() : nullptr,
                    .out = out.mutable_data_ptr(),
                    .out_stride = rows_of(out).stride,
                    .out_type = type_of(out)},
                   compute_stream());
}

void multiply_cuda(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, double scale,
                   const at::Tensor& addend) {
  static auto& library = *new CublasLt;  // never destroyed: at the end of the process the driver may be gone
  multiply_with(library, out, a, b, scale, addend);
}

}  // namespace plumb
