// Rows by index, the gradient of an embedding, and the scores of a reward model.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    take_rows_kernel(const T* x, const int64_t* rows, int64_t count, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  Pack v = {};
  if (place.row < count) v = load_pack(x + rows[place.row] * dim, place.i, dim);
  store_pack(y + place.row * dim, place.i, dim, v);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    put_rows_kernel(const T* x, const int64_t* rows, int64_t count, T* y, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row < count)
    store_pack(y + rows[place.row] * dim, place.i, dim, load_pack(x + place.row * dim, place.i, dim));
}

/// A thread adds eight columns of all rows of a token.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_rows_by_token_kernel(const T* x, TokenRuns runs, float* gradient, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= runs.num_runs) return;
  float* const row = gradient + runs.token[place.row] * dim;
  Pack sum = load_pack(row, place.i, dim);
  for (int64_t k = runs.begin[place.row]; k < runs.begin[place.row + 1]; ++k) {
    const Pack v = load_pack(x + runs.row[k] * dim, place.i, dim);
    sum = make_pack([&](int j) { return sum.v[j] + v.v[j]; });
  }
  store_pack(row, place.i, dim, sum);
}

/// A warp multiplies 32 elements at once, exactly, and its first lane adds the products in order.
__global__ void __launch_bounds__(kWarp)
    score_rows_kernel(const float* x, const float* weight, float* scores, int64_t dim) {
  __shared__ double products[kWarp];
  const int64_t lane = threadIdx.x;
  x += static_cast<int64_t>(blockIdx.x) * dim;
  double sum = 0;
  for (int64_t begin = 0; begin < dim; begin += kWarp) {
    const int64_t count = min(static_cast<int64_t>(kWarp), dim - begin), i = begin + lane;
    if (lane < count) products[lane] = static_cast<double>(x[i]) * static_cast<double>(weight[i]);
    __syncwarp();
    for (int64_t k = 0; lane == 0 && k < count; ++k) sum += products[k];
    __syncwarp();
  }
  if (lane == 0) scores[blockIdx.x] = static_cast<float>(sum);
}

__global__ void __launch_bounds__(kThreads)
    score_rows_backward_kernel(const float* dscores, const float* x, const float* weight, float* dx, float* dweight,
                               int64_t num_rows, int64_t dim) {
  const int64_t i = thread_index();
  if (i >= dim) return;
  float sum = dweight ? dweight[i] : 0.0f;
  for (int64_t row = 0; row < num_rows; ++row) {
    sum = __fadd_rn(sum, __fmul_rn(dscores[row], x[row * dim + i]));  // not fused, as on the CPU
    dx[row * dim + i] = __fmul_rn(dscores[row], weight[i]);
  }
  if (dweight) dweight[i] = sum;
}

}  // namespace

template <class T>
void take_rows(const T* x, const int64_t* rows, int64_t count, T* y, int64_t num_rows, int64_t dim,
               cudaStream_t stream) {
  launch(take_rows_kernel<T>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, x, rows, count, y, num_rows,
         dim);
}

template <class T>
void put_rows(const T* x, const int64_t* rows, int64_t count, T* y, int64_t dim, cudaStream_t stream) {
  launch(put_rows_kernel<T>, blocks_for(num_packs(count, dim)), kThreads, 0, stream, x, rows, count, y, dim);
}

template <class T>
void add_rows_by_token(const T* x, const TokenRuns& runs, float* gradient, int64_t dim, cudaStream_t stream) {
  launch(add_rows_by_token_kernel<T>, blocks_for(num_packs(runs.num_runs, dim)), kThreads, 0, stream, x, runs, gradient,
         dim);
}

void score_rows(const float* x, const float* weight, float* scores, int64_t num_rows, int64_t dim,
                cudaStream_t stream) {
  launch(score_rows_kernel, num_rows, kWarp, 0, stream, x, weight, scores, dim);
}

void score_rows_backward(const float* dscores, const float* x, const float* weight, float* dx, float* dweight,
                         int64_t num_rows, int64_t dim, cudaStream_t stream) {
  launch(score_rows_backward_kernel, blocks_for(dim), kThreads, 0, stream, dscores, x, weight, dx, dweight, num_rows,
         dim);
}

#define PLUMB_INSTANTIATE(T)                                                                      \
  template void take_rows(const T*, const int64_t*, int64_t, T*, int64_t, int64_t, cudaStream_t); \
  template void put_rows(const T*, const int64_t*, int64_t, T*, int64_t, cudaStream_t);           \
  template void add_rows_by_token(const T*, const TokenRuns&, float*, int64_t, cudaStream_t);
PLUMB_INSTANTIATE(float)
PLUMB_INSTANTIATE(BFloat16)

}  // namespace plumb::cuda
