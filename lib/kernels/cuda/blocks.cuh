// The tools of all kernels: eight elements at a time in 16-byte accesses, and sums over the threads of a warp, row or
// block in a fixed order. Which thread has which elements depends on the size of a row only, not on where it starts, so
// that results do not depend on alignment either.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "lib/kernels/cuda/launch.cuh"
#include "lib/kernels/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int kWarp = 32, kThreads = 256, kWarps = kThreads / kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPack = 8;

/// Eight consecutive elements.
struct Pack {
  float v[kPack];
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(BFloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

/// Rounds to nearest even. Of a NaN only that it is one is kept.
template <class T>
__device__ __forceinline__ T rounded_to(float x);
template <>
__device__ __forceinline__ float rounded_to<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ BFloat16 rounded_to<BFloat16>(float x) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}

__device__ __forceinline__ unsigned rounded_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return static_cast<unsigned>(__bfloat16_as_ushort(pair.y)) << 16 | __bfloat16_as_ushort(pair.x);
}

template <class T>
__device__ __forceinline__ bool is_wide(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

__device__ __forceinline__ Pack load_wide(const float* p) {
  const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ Pack load_wide(const BFloat16* p) {
  const uint4 words = *reinterpret_cast<const uint4*>(p);
  const unsigned pairs[] = {words.x, words.y, words.z, words.w};
  Pack pack;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    pack.v[2 * k] = __uint_as_float(pairs[k] << 16);
    pack.v[2 * k + 1] = __uint_as_float(pairs[k] & 0xffff0000u);
  }
  return pack;
}
// __stwb is a plain store of 16 bytes; the compiler may divide an assignment into four.
__device__ __forceinline__ void store_wide(float* p, const Pack& x) {
  __stwb(reinterpret_cast<float4*>(p), float4{x.v[0], x.v[1], x.v[2], x.v[3]});
  __stwb(reinterpret_cast<float4*>(p) + 1, float4{x.v[4], x.v[5], x.v[6], x.v[7]});
}
__device__ __forceinline__ void store_wide(BFloat16* p, const Pack& x) {
  __stwb(reinterpret_cast<uint4*>(p), uint4{rounded_pair(x.v[0], x.v[1]), rounded_pair(x.v[2], x.v[3]),
                                            rounded_pair(x.v[4], x.v[5]), rounded_pair(x.v[6], x.v[7])});
}

/// Elements [i, i + 8) of a row of n; `fill` past its end.
template <class T>
__device__ __forceinline__ Pack load_pack(const T* row, int64_t i, int64_t n, float fill = 0) {
  if (i + kPack <= n && is_wide(row + i)) return load_wide(row + i);
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) pack.v[k] = i + k < n ? to_float(row[i + k]) : fill;
  return pack;
}
template <class T>
__device__ __forceinline__ void store_pack(T* row, int64_t i, int64_t n, const Pack& x) {
  if (i + kPack <= n && is_wide(row + i)) return store_wide(row + i, x);
#pragma unroll
  for (int k = 0; k < kPack; ++k)
    if (i + k < n) row[i + k] = rounded_to<T>(x.v[k]);
}

/// A pack for each k: f(k).
template <class Function>
__device__ __forceinline__ Pack make_pack(Function f) {
  Pack pack;
#pragma unroll
  for (int k = 0; k < kPack; ++k) pack.v[k] = f(k);
  return pack;
}

/// The thread of a grid of num_packs(rows, dim) packs has elements [i, i + 8) of this row.
struct PackPlace {
  int64_t row, i;
};
inline int64_t num_packs(int64_t num_rows, int64_t dim) { return num_rows * ((dim + kPack - 1) / kPack); }
inline int64_t blocks_for(int64_t num_threads) { return (num_threads + kThreads - 1) / kThreads; }
__device__ __forceinline__ int64_t thread_index() { return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; }
__device__ __forceinline__ PackPlace pack_place(int64_t dim) {
  const int64_t packs = (dim + kPack - 1) / kPack, at = thread_index();
  return {at / packs, at % packs * kPack};
}

struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// The larger, of which NaN is none.
struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Smaller {
  __device__ __forceinline__ int operator()(int a, int b) const { return min(a, b); }
};

/// The values of all lanes, as a tree; every lane gets the result.
template <class Combine, class T>
__device__ __forceinline__ T reduce_warp(T x) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) x = Combine()(x, __shfl_xor_sync(kAllLanes, x, distance));
  return x;
}
/// The values of all threads of the block, which all call this and get the result; the warps' are in their order.
template <class Combine, class T>
__device__ __forceinline__ T reduce_block(T x) {
  __shared__ T parts[kWarps];
  x = reduce_warp<Combine>(x);
  __syncthreads();  // all have read the parts of the call before
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  T all = parts[0];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) all = Combine()(all, parts[i]);
  return all;
}

/// Over the threads of a row: a warp, or the whole block.
template <int kRowThreads>
__device__ __forceinline__ float row_sum(float x) {
  static_assert(kRowThreads == kWarp || kRowThreads == kThreads);
  if constexpr (kRowThreads == kWarp)
    return reduce_warp<Add>(x);
  else
    return reduce_block<Add>(x);
}

}  // namespace

}  // namespace plumb::cuda
