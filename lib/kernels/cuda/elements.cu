// Casts and dropout, element by element.
#include "lib/base/random.hpp"
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

template <class From, class To>
__global__ void __launch_bounds__(kThreads) cast_kernel(const From* x, To* y, int64_t n) {
  const int64_t i = thread_index() * kPack;
  if (i < n) store_pack(y, i, n, load_pack(x, i, n));
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_kernel(const T* x, float* y, int64_t n) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  const Pack a = load_pack(y, i, n), b = load_pack(x, i, n);
  store_pack(y, i, n, make_pack([&](int k) { return a.v[k] + b.v[k]; }));
}

template <class T>
__global__ void __launch_bounds__(kThreads) drop_out_kernel(const T* x, T* y, int64_t n, uint64_t seed,
                                                            uint64_t dropout_stream, uint32_t threshold, float scale) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  Pack v = load_pack(x, i, n);
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // one counter has the words of four elements
    const int64_t counter = i / 4 + half;
    const auto words = philox({static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                               static_cast<uint32_t>(dropout_stream), static_cast<uint32_t>(dropout_stream >> 32)},
                              seed);
#pragma unroll
    for (int k = 0; k < 4; ++k) v.v[4 * half + k] = words[k] < threshold ? 0.0f : v.v[4 * half + k] * scale;
  }
  store_pack(y, i, n, v);
}

template <class From, class To>
void cast(const From* x, To* y, int64_t n, cudaStream_t stream) {
  launch(cast_kernel<From, To>, blocks_for(num_packs(1, n)), kThreads, 0, stream, x, y, n);
}

}  // namespace

template <class T>
void to_float(const T* x, float* y, int64_t n, cudaStream_t stream) {
  cast(x, y, n, stream);
}
template <class T>
void from_float(const float* x, T* y, int64_t n, cudaStream_t stream) {
  cast(x, y, n, stream);
}

template <class T>
void add_to_float(const T* x, float* y, int64_t n, cudaStream_t stream) {
  launch(add_kernel<T>, blocks_for(num_packs(1, n)), kThreads, 0, stream, x, y, n);
}

template <class T>
void drop_out(const T* x, T* y, int64_t n, uint64_t seed, uint64_t dropout_stream, uint32_t threshold, float scale,
              cudaStream_t stream) {
  launch(drop_out_kernel<T>, blocks_for(num_packs(1, n)), kThreads, 0, stream, x, y, n, seed, dropout_stream, threshold,
         scale);
}

#define PLUMB_INSTANTIATE(T)                                           \
  template void to_float(const T*, float*, int64_t, cudaStream_t);     \
  template void from_float(const float*, T*, int64_t, cudaStream_t);   \
  template void add_to_float(const T*, float*, int64_t, cudaStream_t); \
  template void drop_out(const T*, T*, int64_t, uint64_t, uint64_t, uint32_t, float, cudaStream_t);
PLUMB_INSTANTIATE(float)
PLUMB_INSTANTIATE(BFloat16)

}  // namespace plumb::cuda
