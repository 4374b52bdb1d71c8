// The kernels on tensors: unpacks pointers and picks the element type. Tensors must be contiguous; sizes come from
// them.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

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

/// body(first, last) for parts of the rows, on the threads of this rank. Rows are independent of each other, so the
/// bits do not depend on how many there are.
template <class Body>
void for_rows(int64_t num_rows, int64_t elements_per_row, Body body) {
  constexpr int64_t kGrainElements = 1 << 14;  // some ten microseconds
  at::parallel_for(0, num_rows, std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements_per_row)), body);
}

template <class T>
T* data_of(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

}  // namespace plumb
