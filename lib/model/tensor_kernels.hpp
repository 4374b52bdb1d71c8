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

template <class T>
T* data_of(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

}  // namespace plumb
