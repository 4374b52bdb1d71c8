// AdamW with moments in float32 or in 8 bits.
// Source: arXiv:1711.05101, arXiv:2110.02861.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/dynamic_map.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int64_t kMostBlocks = 2048;  // of moments in 8 bits: each copies the tables once

struct Element {
  float parameter, moment1, moment2;
};
__device__ __forceinline__ Element updated(Element e, float gradient, const AdamWStep& s, float weight_decay) {
  const float g = gradient * s.gradient_scale;
  e.moment1 += (1.0f - s.beta1) * (g - e.moment1);
  e.moment2 = e.moment2 * s.beta2 + (1.0f - s.beta2) * g * g;
  const float decay = 1.0f - s.learning_rate * weight_decay, rate = s.learning_rate / s.bias_correction1;
  e.parameter = e.parameter * decay - rate * e.moment1 / (sqrtf(e.moment2) / s.bias_correction2_sqrt + s.epsilon);
  return e;
}

/// updated() of a pack; weight_decay(k) is that of element k.
template <class WeightDecay>
__device__ __forceinline__ void update(Pack& p, const Pack& g, Pack& m, Pack& v, const AdamWStep& step,
                                       WeightDecay weight_decay) {
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const Element e = updated({p.v[k], m.v[k], v.v[k]}, g.v[k], step, weight_decay(k));
    p.v[k] = e.parameter;
    m.v[k] = e.moment1;
    v.v[k] = e.moment2;
  }
}

__global__ void __launch_bounds__(kThreads) adamw_kernel(float* parameter, const float* gradient, float* moment1,
                                                         float* moment2, BFloat16* copy, int64_t n, AdamWStep step) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  Pack p = load_pack(parameter, i, n), m = load_pack(moment1, i, n), v = load_pack(moment2, i, n);
  update(p, load_pack(gradient, i, n), m, v, step, [&](int) { return step.weight_decay; });
  store_pack(parameter, i, n, p);
  store_pack(moment1, i, n, m);
  store_pack(moment2, i, n, v);
  if (copy) store_pack(copy, i, n, p);
}

/// The run that contains element i.
__device__ __forceinline__ int run_of(const int64_t* run_end, int num_runs, int64_t i) {
  int first = 0, last = num_runs - 1;
  while (first < last) {
    const int middle = (first + last) / 2;
    if (i < run_end[middle])
      last = middle;
    else
      first = middle + 1;
  }
  return first;
}

/// Bit k: whether element i + k, of the block that begins at `begin`, is decayed.
__device__ __forceinline__ unsigned decayed_elements(const Adamw8Bit& a, int64_t begin, int64_t i, int64_t n) {
  const int run = run_of(a.run_end, a.num_runs, begin);
  if (a.run_end[run] >= min(n, begin + kDynamicBlock)) return a.is_decayed[run] ? 0xffu : 0u;
  unsigned decayed = 0;
#pragma unroll 1
  for (int k = 0; k < kPack; ++k)
    if (a.is_decayed[run_of(a.run_end, a.num_runs, i + k)]) decayed |= 1u << k;
  return decayed;
}

__device__ __forceinline__ Pack widened(const SharedMap& map, const Codes& codes, float scale) {
  return make_pack([&](int k) { return map.values[codes.code[k]] * scale; });
}

__global__ void __launch_bounds__(kThreads) adamw_8bit_kernel(Adamw8Bit a, int64_t n, AdamWStep step) {
  SharedMap* const maps = dynamic_shared<SharedMap>();
  copy_map(a.tables1, maps[0]);
  copy_map(a.tables2, maps[1]);
  __syncthreads();
  const int64_t num_blocks = (n + kDynamicBlock - 1) / kDynamicBlock, lane = threadIdx.x % kWarp;
  const int64_t warp = thread_index() / kWarp, num_warps = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t block = warp; block < num_blocks; block += num_warps) {
    const int64_t begin = block * kDynamicBlock, i = begin + lane * kPack;
    Pack p = load_pack(a.parameter, i, n);
    Pack m = widened(maps[0], load_codes(a.codes1, i, n), a.scales1[block]);
    Pack v = widened(maps[1], load_codes(a.codes2, i, n), a.scales2[block]);
    __syncwarp();  // all lanes have read the scales, which the first lane overwrites
    const unsigned decayed = decayed_elements(a, begin, i, n);
    update(p, load_pack(a.gradient, i, n), m, v, step,
           [&](int k) { return (decayed >> k & 1u) != 0 ? step.weight_decay : 0.0f; });
    // codes past the end stand for values, which must not count as magnitudes
    const auto within = [&](const Pack& x) { return make_pack([&](int k) { return i + k < n ? x.v[k] : 0.0f; }); };
    quantize(maps[0], within(m), i, n, a.codes1, a.scales1 + block);
    quantize(maps[1], within(v), i, n, a.codes2, a.scales2 + block);
    store_pack(a.parameter, i, n, p);
    if (a.copy) store_pack(a.copy, i, n, p);
  }
}

__global__ void __launch_bounds__(kThreads)
    quantize_dynamic_kernel(DynamicTables tables, const float* values, float offset, int64_t n, uint8_t* codes,
                            float* scales) {
  SharedMap* const map = dynamic_shared<SharedMap>();
  copy_map(tables, *map);
  __syncthreads();
  const int64_t block = thread_index() / kWarp, i = thread_index() * kPack;
  if (block * kDynamicBlock >= n) return;
  const Pack x = load_pack(values, i, n, offset);  // the difference past the end is zero
  quantize(*map, make_pack([&](int k) { return __fsub_rn(x.v[k], offset); }), i, n, codes, scales + block);
}

}  // namespace

void adamw(float* parameter, const float* gradient, float* moment1, float* moment2, BFloat16* copy, int64_t n,
           const AdamWStep& step, cudaStream_t stream) {
  launch(adamw_kernel, blocks_for(num_packs(1, n)), kThreads, 0, stream, parameter, gradient, moment1, moment2, copy, n,
         step);
}

void adamw_8bit(const Adamw8Bit& arrays, int64_t n, const AdamWStep& step, cudaStream_t stream) {
  launch(adamw_8bit_kernel, min(kMostBlocks, blocks_for(num_packs(1, n))), kThreads, 2 * sizeof(SharedMap), stream,
         arrays, n, step);
}

void quantize_dynamic(const DynamicTables& tables, const float* values, float offset, int64_t n, uint8_t* codes,
                      float* scales, cudaStream_t stream) {
  launch(quantize_dynamic_kernel, blocks_for(num_packs(1, n)), kThreads, sizeof(SharedMap), stream, tables, values,
         offset, n, codes, scales);
}

}  // namespace plumb::cuda
