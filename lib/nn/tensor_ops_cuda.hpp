// The table of TensorOps for CUDA tensors, and the stream on which it works. Builds without CUDA have
// tensor_ops_no_cuda.cpp instead of tensor_ops_cuda.cpp.
#pragma once

#include "lib/nn/tensor_ops.hpp"

namespace plumb {

/// Throws std::logic_error in a build without CUDA.
const TensorOps& cuda_ops();

}  // namespace plumb
