// Planned buffers in the memory of a device, as tensors.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <cuda_runtime_api.h>

#include "lib/device/cuda_check.hpp"
#include "partition/buffer_plan.hpp"

namespace plumb {

/// Where the caller computes: gathered units and gradients are tensors on `device`, used in the order of `stream`.
struct ComputeDevice {
  at::Device device;
  cudaStream_t stream;

  at::Tensor tensor(std::byte* data, int64_t elements, at::ScalarType dtype) const {
    return at::from_blob(data, {elements}, at::TensorOptions().dtype(dtype).device(device));
  }
};

/// Bytes per element of the gradient that is reduced: 4 of float32, 2 of bfloat16.
inline int64_t element_bytes_of(const UnitOperation& reduce, const ShardLayout& layout) {
  return reduce.buffer.bytes / layout.padded_elements();
}

/// The buffer of a gradient, with gaps set to zero.
inline at::Tensor gradient_tensor(std::byte* data, const UnitOperation& reduce, const ShardLayout& layout,
                                  const ComputeDevice& compute) {
  const int64_t element_bytes = element_bytes_of(reduce, layout);
  for (const ElementRange& gap : layout.gaps())
    check_cuda(cudaMemsetAsync(data + gap.begin * element_bytes, 0, static_cast<size_t>(gap.size() * element_bytes),
                               compute.stream),
               "set the padding of a gradient to zero");
  return compute.tensor(data, layout.padded_elements(), element_bytes == 4 ? at::kFloat : at::kBFloat16);
}

}  // namespace plumb
