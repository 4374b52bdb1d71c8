// Starts a kernel and gives it dynamic shared memory. nvcc compiles the first half; g++ compiles the second, with the
// headers of tests/cuda_on_cpu, where a kernel's threads are fibers on the CPU. Kernels differ nowhere else.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace plumb::cuda {

inline constexpr size_t kPlainSharedBytes = 48 << 10;  // more must be asked for

#ifdef __CUDACC__

namespace {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(error));
}

/// A one-dimensional grid of blocks of `num_threads`. Does nothing without blocks.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t num_blocks, int num_threads, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (num_blocks == 0) return;
  if (shared_bytes > kPlainSharedBytes)
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "cannot have so much shared memory");
  kernel<<<static_cast<unsigned>(num_blocks), num_threads, shared_bytes, stream>>>(
      static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError(), "cannot start a kernel");
}

/// The dynamic shared memory of the block.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
}

}  // namespace

#else

namespace {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t num_blocks, int num_threads, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (num_blocks == 0) return;
  cuda_on_cpu::enqueue(stream, [=] {
    cuda_on_cpu::run_grid(static_cast<unsigned>(num_blocks), static_cast<unsigned>(num_threads), shared_bytes,
                          [&] { kernel(static_cast<Parameters>(arguments)...); });
  });
}

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(cuda_on_cpu::dynamic_shared());
}

}  // namespace

#endif

}  // namespace plumb::cuda
