// The kernels on tensors: unpacks pointers and picks the element type. Tensors must be contiguous; sizes come from
// them.
#pragma once

#include <ATen/core/Tensor.h>

#include "lib/base/check.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb {

/// Calls body with a null pointer of the element type: float* or BFloat16*.
template <class Body>
decltype(auto) with_element_type(at::ScalarType dtype, Body body) {
  if (dtype == at::kFloat) return body(static_cast<float*>(nullptr));
  check(dtype == at::kBFloat16, "activations are float32 or bfloat16");
  return body(static_cast<BFloat16*>(nullptr));
}

/// How many rows a product of `rows` rows is given. oneDNN compiles and keeps code for every number of rows that a
/// bfloat16 product has: rounded up, few numbers occur. Elements of 4 bytes are left as they are.
inline int64_t round_up_rows(int64_t rows, int64_t element_bytes) {
  constexpr int64_t kBFloat16Rows = 64;
  const int64_t multiple = element_bytes == 4 ? 1 : kBFloat16Rows;
  return (rows + multiple - 1) / multiple * multiple;
}

template <class T>
T* data_of(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

}  // namespace plumb
