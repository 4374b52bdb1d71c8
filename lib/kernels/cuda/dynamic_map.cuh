// 8-bit block quantization (lib/kernels/dynamic_map.hpp): a warp has a block of 256 values, eight per lane, and the
// tables of the map are in shared memory.
#pragma once

#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int kMapSize = 256;
constexpr int64_t kDynamicBlock = kWarp * kPack;
static_assert(kMapSize == kThreads);

/// A map in shared memory.
struct SharedMap {
  float values[kMapSize], thresholds[kMapSize];
};

/// A barrier must follow.
__device__ __forceinline__ void copy_map(const DynamicTables& tables, SharedMap& map) {
  map.values[threadIdx.x] = tables.values[threadIdx.x];
  map.thresholds[threadIdx.x] = tables.thresholds[threadIdx.x];
}

/// The number of thresholds below x, which is the code of the nearest value.
__device__ __forceinline__ unsigned nearest(const SharedMap& map, float x) {
  unsigned code = 0;
#pragma unroll
  for (unsigned step = kMapSize / 2; step > 0; step /= 2)
    if (x > map.thresholds[code + step - 1]) code += step;
  return code;
}

/// Eight codes; those past the end are 0.
struct Codes {
  unsigned code[kPack];
};
__device__ __forceinline__ Codes load_codes(const uint8_t* codes, int64_t i, int64_t n) {
  Codes loaded;
  if (i + kPack <= n && reinterpret_cast<uintptr_t>(codes + i) % 8 == 0) {
    const uint2 words = *reinterpret_cast<const uint2*>(codes + i);
#pragma unroll
    for (int k = 0; k < kPack; ++k) loaded.code[k] = (k < 4 ? words.x : words.y) >> (8 * (k % 4)) & 0xffu;
    return loaded;
  }
#pragma unroll
  for (int k = 0; k < kPack; ++k) loaded.code[k] = i + k < n ? codes[i + k] : 0u;
  return loaded;
}
__device__ __forceinline__ void store_codes(uint8_t* codes, int64_t i, int64_t n, const Codes& x) {
  if (i + kPack <= n && reinterpret_cast<uintptr_t>(codes + i) % 8 == 0) {
    uint2 words = {0, 0};
#pragma unroll
    for (int k = 0; k < kPack; ++k) (k < 4 ? words.x : words.y) |= x.code[k] << (8 * (k % 4));
    *reinterpret_cast<uint2*>(codes + i) = words;
    return;
  }
#pragma unroll
  for (int k = 0; k < kPack; ++k)
    if (i + k < n) codes[i + k] = static_cast<uint8_t>(x.code[k]);
}

/// quantize_block() of the warp's values, of which those past n are zero.
__device__ __forceinline__ void quantize(const SharedMap& map, const Pack& values, int64_t i, int64_t n, uint8_t* codes,
                                         float* scale) {
  float most = 0;
#pragma unroll
  for (int k = 0; k < kPack; ++k) most = fmaxf(most, fabsf(values.v[k]));
  most = reduce_warp<Larger>(most);
  const float reciprocal = __fdiv_rn(1.0f, fmaxf(most, 1e-38f));  // finite also for tiny blocks
  Codes nearest_codes;
#pragma unroll
  for (int k = 0; k < kPack; ++k) nearest_codes.code[k] = nearest(map, __fmul_rn(values.v[k], reciprocal));
  store_codes(codes, i, n, nearest_codes);
  if (threadIdx.x % kWarp == 0) *scale = most;
}

}  // namespace

}  // namespace plumb::cuda
