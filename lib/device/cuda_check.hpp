// Errors of CUDA's runtime as errors of the program.
#pragma once

#include <cuda_runtime_api.h>

#include "lib/base/check.hpp"

namespace plumb {

/// what: completes "cannot WHAT".
inline void check_cuda(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  throw Error(fmt::format("the GPU: cannot {}: {}", what, cudaGetErrorString(code)), kExitInternal);
}

}  // namespace plumb
