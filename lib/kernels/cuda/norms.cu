// RMS norms and LayerNorms. A row belongs to a warp if it is short (heads), else to a block. A backward pass adds the
// weights' gradient in shared memory, one row of sums for each row at work; a second kernel adds the blocks' sums in
// their order.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int64_t kMostWarpColumns = 1024;  // of a row that belongs to a warp
constexpr int kLeastBlocks = 3;       // of a multiprocessor; not told, ptxas aims at more of them and spills registers
constexpr int64_t kMostBlocks = 256;  // of a backward pass: two for each multiprocessor of a large GPU

__device__ __forceinline__ int64_t offset_of(const NormRows& rows, int64_t row) {
  return row / rows.rows_per_token * rows.token_stride + row % rows.rows_per_token * rows.dim;
}
__device__ __forceinline__ int64_t stats_of(const NormRows& rows, int64_t row) {
  return row / rows.rows_per_token * rows.stats_stride + row % rows.rows_per_token;
}

struct RowStats {
  float mean, rstd;
};

template <bool kIsLayer>
__device__ __forceinline__ RowStats read_stats(const float* stats, int64_t at) {
  if constexpr (kIsLayer) return {stats[2 * at], stats[2 * at + 1]};
  return {0.0f, stats[at]};
}

template <class T, bool kIsLayer, int kRowThreads>
__device__ __forceinline__ RowStats find_stats(const T* row, int64_t dim, int64_t first, float epsilon) {
  constexpr int64_t kStep = kRowThreads * kPack;
  float mean = 0, squares = 0;
  if constexpr (kIsLayer) {
    float sum = 0;
    for (int64_t i = first; i < dim; i += kStep) {
      const Pack x = load_pack(row, i, dim);
#pragma unroll
      for (int k = 0; k < kPack; ++k) sum += x.v[k];
    }
    mean = row_sum<kRowThreads>(sum) / static_cast<float>(dim);
  }
  for (int64_t i = first; i < dim; i += kStep) {
    const Pack x = load_pack(row, i, dim, mean);
#pragma unroll
    for (int k = 0; k < kPack; ++k) squares += (x.v[k] - mean) * (x.v[k] - mean);
  }
  return {mean, 1.0f / sqrtf(row_sum<kRowThreads>(squares) / static_cast<float>(dim) + epsilon)};
}

/// has_stats: they are read instead of found.
template <class T, bool kIsLayer, int kRowThreads>
__global__ void __launch_bounds__(kThreads, kLeastBlocks)
    norm_kernel(NormRows rows, const T* x, const T* residual, T* sum, NormWeight<T> norm, T* y, float* stats,
                float epsilon, bool has_stats) {
  constexpr int64_t kStep = kRowThreads * kPack;
  const int64_t row = thread_index() / kRowThreads, first = static_cast<int64_t>(threadIdx.x % kRowThreads) * kPack;
  if (row >= rows.num_rows) return;  // a whole warp, and no barrier follows for it
  const int64_t offset = offset_of(rows, row), at = stats_of(rows, row);
  const T* in = x + offset;
  if (residual) {
    for (int64_t i = first; i < rows.dim; i += kStep) {
      const Pack a = load_pack(in, i, rows.dim), b = load_pack(residual + offset, i, rows.dim);
      store_pack(sum + offset, i, rows.dim, make_pack([&](int k) { return a.v[k] + b.v[k]; }));
    }
    in = sum + offset;  // each thread reads back what it has rounded itself
  }
  RowStats found;
  if (has_stats) {
    found = read_stats<kIsLayer>(stats, at);
  } else {
    found = find_stats<T, kIsLayer, kRowThreads>(in, rows.dim, first, epsilon);
    if (first == 0) {
      if constexpr (kIsLayer) stats[2 * at] = found.mean;
      stats[kIsLayer ? 2 * at + 1 : at] = found.rstd;
    }
  }
  for (int64_t i = first; i < rows.dim; i += kStep) {
    const Pack v = load_pack(in, i, rows.dim), weight = load_pack(norm.weight, i, rows.dim);
    Pack bias = {};
    if (norm.bias) bias = load_pack(norm.bias, i, rows.dim);
    store_pack(y + offset, i, rows.dim, make_pack([&](int k) {
                 return (v.v[k] - found.mean) * found.rstd * (norm.offset + weight.v[k]) + bias.v[k];
               }));
  }
}

/// The arguments of a backward pass. The blocks' sums of dweight are in `partial` [blocks, dim], those of dbias after
/// them, unless has_bias is false.
template <class T>
struct NormBackward {
  NormRows rows;
  const T *dy, *x;
  const float* stats;
  NormWeight<T> norm;
  const T* carry;
  T* dx;
  float* partial;
  bool has_bias;
};

/// Adds to the sums of the weights' gradients and returns the means that dx needs, of the normed gradient and of its
/// product with the normed row.
template <class T, bool kIsLayer, int kRowThreads>
__device__ __forceinline__ RowStats add_row(const NormBackward<T>& args, int64_t offset, RowStats stats, int64_t first,
                                            float* dweight, float* dbias) {
  const int64_t dim = args.rows.dim;
  float sums = 0, dots = 0;
  for (int64_t i = first; i < dim; i += kRowThreads * kPack) {
    const Pack x = load_pack(args.x + offset, i, dim, stats.mean), d = load_pack(args.dy + offset, i, dim),
               weight = load_pack(args.norm.weight, i, dim);
#pragma unroll
    for (int k = 0; k < kPack; ++k) {
      const float normed = (x.v[k] - stats.mean) * stats.rstd, dnormed = d.v[k] * (args.norm.offset + weight.v[k]);
      sums += dnormed;
      dots += dnormed * normed;
      if (i + k >= dim) continue;
      dweight[i + k] += d.v[k] * normed;
      if (kIsLayer && args.has_bias) dbias[i + k] += d.v[k];
    }
  }
  const float n = static_cast<float>(dim);
  RowStats means = {0.0f, row_sum<kRowThreads>(dots) / n};
  if constexpr (kIsLayer) means.mean = row_sum<kRowThreads>(sums) / n;
  return means;
}

template <class T, bool kIsLayer, int kRowThreads>
__global__ void __launch_bounds__(kThreads, kLeastBlocks) norm_backward_kernel(NormBackward<T> args) {
  constexpr int kRowsAtWork = kThreads / kRowThreads;
  const int64_t dim = args.rows.dim, num_sums = kIsLayer && args.has_bias ? 2 * dim : dim;
  const int64_t slot = threadIdx.x / kRowThreads, first = static_cast<int64_t>(threadIdx.x % kRowThreads) * kPack;
  float* const all_sums = dynamic_shared<float>();  // [kRowsAtWork, num_sums]
  float *const dweight = all_sums + slot * num_sums, *const dbias = dweight + dim;
  for (int64_t i = threadIdx.x; i < kRowsAtWork * num_sums; i += kThreads) all_sums[i] = 0;
  __syncthreads();
  for (int64_t row = blockIdx.x * kRowsAtWork + slot; row < args.rows.num_rows; row += gridDim.x * kRowsAtWork) {
    const int64_t offset = offset_of(args.rows, row);
    const RowStats stats = read_stats<kIsLayer>(args.stats, stats_of(args.rows, row));
    const RowStats means = add_row<T, kIsLayer, kRowThreads>(args, offset, stats, first, dweight, dbias);
    for (int64_t i = first; i < dim; i += kRowThreads * kPack) {
      const Pack x = load_pack(args.x + offset, i, dim), d = load_pack(args.dy + offset, i, dim),
                 weight = load_pack(args.norm.weight, i, dim);
      Pack carry = {};
      if (args.carry) carry = load_pack(args.carry + offset, i, dim);
      store_pack(args.dx + offset, i, dim, make_pack([&](int k) {
                   const float normed = (x.v[k] - stats.mean) * stats.rstd;
                   const float dnormed = d.v[k] * (args.norm.offset + weight.v[k]);
                   return (dnormed - means.mean - normed * means.rstd) * stats.rstd + carry.v[k];
                 }));
    }
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < num_sums; i += kThreads) {
    float sum = all_sums[i];
    for (int k = 1; k < kRowsAtWork; ++k) sum += all_sums[k * num_sums + i];
    args.partial[i / dim * gridDim.x * dim + blockIdx.x * dim + i % dim] = sum;
  }
}

/// total[i] += the sum of column i of partial [num_partials, dim]: eight sums of consecutive rows, then these in order.
__global__ void __launch_bounds__(kThreads)
    add_columns_kernel(const float* partial, int64_t num_partials, int64_t dim, float* total) {
  __shared__ float sums[kWarps][kWarp];
  const int lane = threadIdx.x % kWarp, part = threadIdx.x / kWarp;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
  const int64_t rows_per_part = (num_partials + kWarps - 1) / kWarps, begin = part * rows_per_part;
  const int64_t end = min(num_partials, begin + rows_per_part);
  float sum = 0;
  for (int64_t row = begin; row < end && i < dim; ++row) sum += partial[row * dim + i];
  sums[part][lane] = sum;
  __syncthreads();
  if (part != 0 || i >= dim) return;
  for (int k = 1; k < kWarps; ++k) sum += sums[k][lane];
  total[i] += sum;
}

template <class T, bool kIsLayer>
void launch_norm(const NormRows& rows, const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* stats,
                 float epsilon, bool has_stats, cudaStream_t stream) {
  if (rows.dim <= kMostWarpColumns)
    launch(norm_kernel<T, kIsLayer, kWarp>, blocks_for(rows.num_rows * kWarp), kThreads, 0, stream, rows, x, residual,
           sum, weight, y, stats, epsilon, has_stats);
  else
    launch(norm_kernel<T, kIsLayer, kThreads>, rows.num_rows, kThreads, 0, stream, rows, x, residual, sum, weight, y,
           stats, epsilon, has_stats);
}

template <class T, bool kIsLayer>
void launch_backward(const NormBackward<T>& args, float* dweight, float* dbias, cudaStream_t stream) {
  const int64_t dim = args.rows.dim, num_sums = args.has_bias ? 2 * dim : dim;
  const bool is_of_warp = dim <= kMostWarpColumns / (args.has_bias ? 2 : 1);
  const int64_t rows_at_work = is_of_warp ? kWarps : 1;
  const int64_t num_blocks = min(kMostBlocks, (args.rows.num_rows + rows_at_work - 1) / rows_at_work);
  const size_t shared_bytes = static_cast<size_t>(rows_at_work * num_sums) * sizeof(float);
  launch(is_of_warp ? norm_backward_kernel<T, kIsLayer, kWarp> : norm_backward_kernel<T, kIsLayer, kThreads>,
         num_blocks, kThreads, shared_bytes, stream, args);
  const int64_t column_blocks = (dim + kWarp - 1) / kWarp;
  launch(add_columns_kernel, column_blocks, kThreads, 0, stream, args.partial, num_blocks, dim, dweight);
  if (args.has_bias)
    launch(add_columns_kernel, column_blocks, kThreads, 0, stream, args.partial + num_blocks * dim, num_blocks, dim,
           dbias);
}

}  // namespace

template <class T>
void rms_norm(const NormRows& rows, const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* rstd,
              float epsilon, cudaStream_t stream) {
  launch_norm<T, false>(rows, x, residual, sum, weight, y, rstd, epsilon, false, stream);
}

template <class T>
void layer_norm(const NormRows& rows, const T* x, const T* residual, T* sum, NormWeight<T> weight, T* y, float* stats,
                float epsilon, cudaStream_t stream) {
  launch_norm<T, true>(rows, x, residual, sum, weight, y, stats, epsilon, false, stream);
}

template <class T>
void recompute_rms_norm(const NormRows& rows, const T* x, const float* rstd, NormWeight<T> weight, T* y,
                        cudaStream_t stream) {
  launch_norm<T, false>(rows, x, nullptr, nullptr, weight, y, const_cast<float*>(rstd), 0, true, stream);
}

template <class T>
void recompute_layer_norm(const NormRows& rows, const T* x, const float* stats, NormWeight<T> weight, T* y,
                          cudaStream_t stream) {
  launch_norm<T, true>(rows, x, nullptr, nullptr, weight, y, const_cast<float*>(stats), 0, true, stream);
}

int64_t norm_scratch_elements(int64_t dim) { return 2 * kMostBlocks * dim; }

template <class T>
void rms_norm_backward(const NormRows& rows, const T* dy, const T* x, const float* rstd, NormWeight<T> weight,
                       const T* carry, T* dx, float* dweight, float* scratch, cudaStream_t stream) {
  launch_backward<T, false>({rows, dy, x, rstd, weight, carry, dx, scratch, false}, dweight, nullptr, stream);
}

template <class T>
void layer_norm_backward(const NormRows& rows, const T* dy, const T* x, const float* stats, NormWeight<T> weight,
                         const T* carry, T* dx, float* dweight, float* dbias, float* scratch, cudaStream_t stream) {
  launch_backward<T, true>({rows, dy, x, stats, weight, carry, dx, scratch, dbias != nullptr}, dweight, dbias, stream);
}

#define PLUMB_INSTANTIATE(T)                                                                                         \
  template void rms_norm(const NormRows&, const T*, const T*, T*, NormWeight<T>, T*, float*, float, cudaStream_t);   \
  template void layer_norm(const NormRows&, const T*, const T*, T*, NormWeight<T>, T*, float*, float, cudaStream_t); \
  template void recompute_rms_norm(const NormRows&, const T*, const float*, NormWeight<T>, T*, cudaStream_t);        \
  template void recompute_layer_norm(const NormRows&, const T*, const float*, NormWeight<T>, T*, cudaStream_t);      \
  template void rms_norm_backward(const NormRows&, const T*, const T*, const float*, NormWeight<T>, const T*, T*,    \
                                  float*, float*, cudaStream_t);                                                     \
  template void layer_norm_backward(const NormRows&, const T*, const T*, const float*, NormWeight<T>, const T*, T*,  \
                                    float*, float*, float*, cudaStream_t);
PLUMB_INSTANTIATE(float)
PLUMB_INSTANTIATE(BFloat16)

}  // namespace plumb::cuda
