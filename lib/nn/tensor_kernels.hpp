// Helpers that call CPU kernels on tensors: pointers to elements, dispatch by element type, and threads. Tensors must
// be contiguous.
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

/// Calls body(first, last) for ranges of rows, on the threads of this rank. Rows must be independent, so that the bits
/// do not depend on the number of threads.
template <class Body>
void for_rows(int64_t num_rows, int64_t elements_per_row, Body body) {
  constexpr int64_t kGrainElements = 1 << 14;  // about ten microseconds of work
  at::parallel_for(0, num_rows, std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, elements_per_row)), body);
}

template <class T>
T* data_of(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

}  // namespace plumb
