// Values of the host as memory of a tensor's device.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <cstdint>
#include <vector>

namespace plumb {

/// The bytes of `count` values, for kernels on the device of x; the values themselves if that is the CPU.
template <class T>
at::Tensor on_device_of(const at::Tensor& x, const T* values, int64_t count) {
  const auto bytes = static_cast<int64_t>(count * sizeof(T));
  return at::from_blob(const_cast<T*>(values), {bytes}, at::TensorOptions().dtype(at::kByte)).to(x.device());
}
template <class T>
at::Tensor on_device_of(const at::Tensor& x, const std::vector<T>& values) {
  return on_device_of(x, values.data(), static_cast<int64_t>(values.size()));
}

}  // namespace plumb
