// The part of CUDA C++ that the kernels of lib/kernels/cuda use, for g++: they compile unchanged and run on the CPU,
// each thread of a block as a fiber (executor.hpp). Not modeled: how memory accesses coalesce, banks of shared memory,
// warps in lock step, and the order in which other blocks see writes. Kernels with inline assembly, tensor cores or
// asynchronous copies cannot run here and are not written.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// In a section of its own, so that the executor can overwrite all of it before each block.
#define __shared__ static __attribute__((section("cuda_shared")))

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace cuda_on_cpu {

using Site = std::source_location;

/// How a launch reaches run_grid(): by default at once. A fake runtime may queue it on the stream instead.
extern std::function<void(cudaStream_t, std::function<void()>)> enqueue;
/// Runs body() as every thread of a one-dimensional grid.
void run_grid(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const std::function<void()>& body);
void* dynamic_shared();

void sync_block(Site site);
void sync_warp(Site site);
/// The value that lane `source` of this warp passes to the same call.
uint64_t exchange(uint64_t value, unsigned source, Site site);

template <class T>
T shuffle(unsigned mask, T value, unsigned source, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = mask == 0xffffffffu ? 0 : throw "only whole warps shuffle";
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(bits, source, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cuda_on_cpu

inline void __syncthreads(cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) { cuda_on_cpu::sync_block(site); }
inline void __syncwarp(cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) { cuda_on_cpu::sync_warp(site); }
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) {
  return cuda_on_cpu::shuffle(mask, value, static_cast<unsigned>(lane), site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, cuda_on_cpu::Site site = cuda_on_cpu::Site::current()) {
  return cuda_on_cpu::shuffle(mask, value, threadIdx.x % 32 ^ static_cast<unsigned>(bits), site);
}

inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long value) {
  return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

template <class T>
void __stwb(T* address, T value) {
  *address = value;
}

// Rounded to nearest and, compiled without fused multiply-add, never fused.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }

inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
using std::isfinite;

#ifdef PLUMB_FAKE_CUDA_RUNTIME  // a target that also has a stand-in for the runtime library
#include <cuda_runtime_api.h>
#endif
