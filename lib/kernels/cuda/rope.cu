// Rotary position embeddings, in place. A thread rotates eight pairs of a head.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(RopeRows<T> rows, const float* cos, const float* sin, float direction) {
  const int64_t half = rows.rotated_dim / 2;
  const PackPlace place = pack_place(half);
  const int64_t row = place.row / rows.num_heads, head = place.row % rows.num_heads, i = place.i;
  if (row >= rows.num_rows) return;
  T* const x = rows.x + row * rows.row_stride + head * rows.head_dim;
  const int64_t turn = rows.positions[row] * half;
  const Pack c = load_pack(cos + turn, i, half), s = load_pack(sin + turn, i, half);
  const auto first = [&](float p, float q, int k) { return p * c.v[k] - q * (s.v[k] * direction); };
  const auto second = [&](float p, float q, int k) { return q * c.v[k] + p * (s.v[k] * direction); };
  if (!rows.is_interleaved) {
    const Pack p = load_pack(x, i, half), q = load_pack(x + half, i, half);
    store_pack(x, i, half, make_pack([&](int k) { return first(p.v[k], q.v[k], k); }));
    store_pack(x + half, i, half, make_pack([&](int k) { return second(p.v[k], q.v[k], k); }));
    return;
  }
#pragma unroll
  for (int part = 0; part < 2; ++part) {  // four pairs (2i, 2i + 1) each
    const int64_t begin = 2 * i + part * kPack;
    const Pack v = load_pack(x, begin, rows.rotated_dim);
    store_pack(x, begin, rows.rotated_dim, make_pack([&](int k) {
                 const int pair = part * kPack / 2 + k / 2;
                 return k % 2 == 0 ? first(v.v[k], v.v[k + 1], pair) : second(v.v[k - 1], v.v[k], pair);
               }));
  }
}

}  // namespace

template <class T>
void rope(const RopeRows<T>& rows, const float* cos, const float* sin, float direction, cudaStream_t stream) {
  launch(rope_kernel<T>, blocks_for(num_packs(rows.num_rows * rows.num_heads, rows.rotated_dim / 2)), kThreads, 0,
         stream, rows, cos, sin, direction);
}

template void rope(const RopeRows<float>&, const float*, const float*, float, cudaStream_t);
template void rope(const RopeRows<BFloat16>&, const float*, const float*, float, cudaStream_t);

}  // namespace plumb::cuda
