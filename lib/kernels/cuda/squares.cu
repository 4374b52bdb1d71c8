// Sums of squares in double. The square of a float is exact in double, so that only the order of additions matters: the
// CPU has sixteen sums, of every sixteenth element; here four threads have four of them each.
#include <stdexcept>

#include "lib/base/exact_digits.hpp"
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int kLanes = 16, kLanesOfThread = 4, kRowThreads = kLanes / kLanesOfThread;
constexpr int64_t kMostBlocks = 1024;
using Bin = unsigned long long;  // a signed bin in two's complement, as atomicAdd has it

__device__ __forceinline__ void load_four(const float* p, float (&x)[kLanesOfThread]) {
  if (is_wide(p)) {
    const float4 v = *reinterpret_cast<const float4*>(p);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    return;
  }
#pragma unroll
  for (int k = 0; k < kLanesOfThread; ++k) x[k] = p[k];
}
__device__ __forceinline__ void load_four(const BFloat16* p, float (&x)[kLanesOfThread]) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(uint2) == 0) {
    const uint2 pairs = *reinterpret_cast<const uint2*>(p);
    x[0] = __uint_as_float(pairs.x << 16), x[1] = __uint_as_float(pairs.x & 0xffff0000u);
    x[2] = __uint_as_float(pairs.y << 16), x[3] = __uint_as_float(pairs.y & 0xffff0000u);
    return;
  }
#pragma unroll
  for (int k = 0; k < kLanesOfThread; ++k) x[k] = to_float(p[k]);
}

__device__ __forceinline__ double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

/// FloatKernels::sum_of_squares by the four threads of a row, all of which get it. The whole warp calls this; n is 0
/// for threads without a row.
template <class T>
__device__ __forceinline__ double sum_of_squares(const T* x, int64_t n) {
  const int part = threadIdx.x % kRowThreads;
  double sums[kLanesOfThread] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    float v[kLanesOfThread];
    load_four(x + i + part * kLanesOfThread, v);
#pragma unroll
    for (int k = 0; k < kLanesOfThread; ++k) sums[k] += square(v[k]);
  }
  for (; i < n && part == 0; ++i) sums[0] += square(to_float(x[i]));  // the rest belongs to the first sum
  double sum = 0;
  const int first = static_cast<int>(threadIdx.x % kWarp) - part;
#pragma unroll
  for (int k = 0; k < kLanes; ++k) sum += __shfl_sync(kAllLanes, sums[k % kLanesOfThread], first + k / kLanesOfThread);
  return sum;
}

/// Integers may be added in any order. A block adds in its own bins first, since few bins have most of the sum.
__global__ void __launch_bounds__(kThreads) add_squares_kernel(const float* x, int64_t num_chunks, Bin* bins) {
  Bin* const own_bins = dynamic_shared<Bin>();
  for (int i = threadIdx.x; i < kExactBins; i += kThreads) own_bins[i] = 0;
  __syncthreads();
  constexpr int kChunksAtWork = kThreads / kRowThreads;
  const int slot = threadIdx.x / kRowThreads;
  for (int64_t begin = static_cast<int64_t>(blockIdx.x) * kChunksAtWork; begin < num_chunks;
       begin += static_cast<int64_t>(gridDim.x) * kChunksAtWork) {
    const int64_t chunk = begin + slot;
    const bool has_chunk = chunk < num_chunks;
    const double sum = sum_of_squares(has_chunk ? x + chunk * kSquaresChunk : x, has_chunk ? kSquaresChunk : 0);
    if (!has_chunk || threadIdx.x % kRowThreads != 0) continue;
    const ExactDigits digits = exact_digits(sum);
#pragma unroll
    for (int k = 0; k < ExactDigits::kCount; ++k)
      if (digits.digit[k] != 0) atomicAdd(own_bins + digits.bin + k, static_cast<Bin>(digits.digit[k]));
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kExactBins; i += kThreads)
    if (own_bins[i] != 0) atomicAdd(bins + i, own_bins[i]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    squared_row_norms_kernel(const T* x, float* squares, int64_t num_rows, int64_t dim) {
  const int64_t row = thread_index() / kRowThreads;
  const bool has_row = row < num_rows;
  const double sum = sum_of_squares(has_row ? x + row * dim : x, has_row ? dim : 0);
  if (has_row && threadIdx.x % kRowThreads == 0) squares[row] = static_cast<float>(sum);
}

}  // namespace

void add_squares(const float* x, int64_t n, int64_t* bins, cudaStream_t stream) {
  if (n % kSquaresChunk != 0) throw std::logic_error("squares are added in whole chunks");
  const int64_t num_chunks = n / kSquaresChunk;
  launch(add_squares_kernel, min(kMostBlocks, blocks_for(num_chunks * kRowThreads)), kThreads, kExactBins * sizeof(Bin),
         stream, x, num_chunks, reinterpret_cast<Bin*>(bins));
}

template <class T>
void squared_row_norms(const T* x, float* squares, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  launch(squared_row_norms_kernel<T>, blocks_for(num_rows * kRowThreads), kThreads, 0, stream, x, squares, num_rows,
         dim);
}

template void squared_row_norms(const float*, float*, int64_t, int64_t, cudaStream_t);
template void squared_row_norms(const BFloat16*, float*, int64_t, int64_t, cudaStream_t);

}  // namespace plumb::cuda
