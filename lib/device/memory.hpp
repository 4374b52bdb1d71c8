// Memory of the device, and of the host at addresses that the device copies from and to.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "lib/device/cuda_check.hpp"

namespace plumb {

/// Throws with the size, the memory that is left, and the cures.
[[noreturn]] inline void throw_no_device_memory(int64_t bytes, const char* what) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  throw_error<InputOutputError>(
      "the GPU: no memory for {}: {} bytes wanted, {} of {} free; fewer tokens per micro-batch, more ranks or "
      "adapters need less, and `plumb plan` says how much",
      what, bytes, free, total);
}

class DeviceMemory {
 public:
  /// what: what it is for.
  DeviceMemory(int64_t bytes, const char* what) {
    if (bytes == 0) return;
    const cudaError_t code = cudaMalloc(&data_, static_cast<size_t>(bytes));
    if (code == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // else the next call reports it again
      throw_no_device_memory(bytes, what);
    }
    check_cuda(code, "allocate memory");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

/// Memory of the host that cannot be paged out: the device copies from and to it while the host computes.
class PinnedMemory {
 public:
  explicit PinnedMemory(int64_t bytes) {
    check_cuda(cudaHostAlloc(&data_, static_cast<size_t>(bytes), cudaHostAllocDefault), "pin memory of the host");
  }
  ~PinnedMemory() { cudaFreeHost(data_); }
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

}  // namespace plumb
