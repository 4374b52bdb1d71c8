// Mixtures of experts: routing, and rows of tokens to and from their experts. A warp has a token or a row where sums
// over it are needed.
#include <cmath>
#include <stdexcept>

#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

constexpr int kNone = 0x7fffffff;

/// A logit and its expert.
struct Choice {
  float logit;
  int expert;
};

/// Whether `a` is chosen before `b`: a NaN, then the larger, then the first.
__device__ __forceinline__ bool is_before(Choice a, Choice b) {
  const bool is_nan = a.logit != a.logit, other_is_nan = b.logit != b.logit;
  if (is_nan != other_is_nan) return is_nan;
  if (!is_nan && a.logit != b.logit) return a.logit > b.logit;
  return a.expert < b.expert;
}

/// The best of the lanes' choices.
__device__ __forceinline__ Choice best_of_warp(Choice own) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const Choice other = {__shfl_xor_sync(kAllLanes, own.logit, distance),
                          __shfl_xor_sync(kAllLanes, own.expert, distance)};
    if (is_before(other, own)) own = other;
  }
  return own;
}

/// The sum of the values of the first `count` lanes, in their order.
__device__ __forceinline__ float sum_of_lanes(float value, int64_t count) {
  float sum = 0;
  for (int lane = 0; lane < count; ++lane) sum += __shfl_sync(kAllLanes, value, lane);
  return sum;
}

/// Each round chooses the best of those that come after the choice before, so that no marks are needed; lane n keeps
/// the choice of round n.
template <class T>
__global__ void __launch_bounds__(kThreads)
    route_kernel(RouterShape shape, const T* all_logits, float* probability, float* weight, int32_t* expert) {
  const int64_t token = thread_index() / kWarp;
  if (token >= shape.num_tokens) return;
  const int lane = threadIdx.x % kWarp, num_experts = static_cast<int>(shape.num_experts);
  const T* const logits = all_logits + token * num_experts;
  Choice own = {}, before = {};
  for (int round = 0; round < shape.num_chosen; ++round) {
    Choice best = {-INFINITY, kNone};
    for (int e = lane; e < num_experts; e += kWarp) {
      const Choice choice = {to_float(logits[e]), e};
      if ((round == 0 || is_before(before, choice)) && is_before(choice, best)) best = choice;
    }
    before = best_of_warp(best);
    if (lane == round) own = before;
  }
  float most = -INFINITY, sum = 0;
  for (int e = lane; e < num_experts; e += kWarp) most = fmaxf(most, to_float(logits[e]));
  most = reduce_warp<Larger>(most);
  for (int e = lane; e < num_experts; e += kWarp) sum += expf(to_float(logits[e]) - most);
  sum = reduce_warp<Add>(sum);
  for (int e = lane; e < num_experts; e += kWarp)
    probability[token * num_experts + e] = expf(to_float(logits[e]) - most) / sum;

  const float chosen = lane < shape.num_chosen ? expf(own.logit - most) / sum : 0.0f;
  const float total = sum_of_lanes(chosen, shape.num_chosen);
  int rank = 0;  // of the expert among the chosen, which are written in ascending order
  for (int other = 0; other < shape.num_chosen; ++other)
    if (__shfl_sync(kAllLanes, own.expert, other) < own.expert) ++rank;
  if (lane >= shape.num_chosen) return;
  const float value = shape.renormalizes ? chosen / total : chosen;
  weight[token * shape.num_chosen + rank] = shape.rounds_weights ? to_float(rounded_to<T>(value)) : value;
  expert[token * shape.num_chosen + rank] = own.expert;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    route_backward_kernel(RouterShape shape, const float* probability, const int32_t* expert, const float* weighted,
                          const double* dprobability, T* dlogits) {
  const int64_t token = thread_index() / kWarp;
  if (token >= shape.num_tokens) return;
  const int lane = threadIdx.x % kWarp, num_experts = static_cast<int>(shape.num_experts);
  const float* const p = probability + token * num_experts;
  const bool is_chosen = lane < shape.num_chosen;
  const int own = is_chosen ? expert[token * shape.num_chosen + lane] : kNone;
  float term = is_chosen ? weighted[token * shape.num_chosen + lane] : 0.0f;  // of the gradient of the own logit
  const float sum = sum_of_lanes(term, shape.num_chosen);
  if (shape.renormalizes) {
    const float chosen = is_chosen ? p[own] : 0.0f;
    term -= chosen / sum_of_lanes(chosen, shape.num_chosen) * sum;
  }
  double mean = 0;
  if (dprobability) {
    for (int e = lane; e < num_experts; e += kWarp) mean += dprobability[e] * static_cast<double>(p[e]);
    mean = reduce_warp<Add>(mean);
  }
  for (int begin = 0; begin < num_experts; begin += kWarp) {  // all lanes, since each has a term that others need
    const int e = begin + lane;
    const float own_p = e < num_experts ? p[e] : 0.0f;
    float dz = shape.renormalizes ? 0.0f : -own_p * sum;
    for (int c = 0; c < shape.num_chosen; ++c) {
      const float value = __shfl_sync(kAllLanes, term, c);
      if (__shfl_sync(kAllLanes, own, c) == e) dz += value;
    }
    if (e >= num_experts) continue;
    if (dprobability) dz += own_p * static_cast<float>(dprobability[e] - mean);
    dlogits[token * num_experts + e] = rounded_to<T>(dz);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gather_expert_rows_kernel(const T* x, const int32_t* token, const int32_t* slot, const float* weight,
                              int64_t num_chosen, int64_t count, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  Pack v = {};
  if (place.row < count) {
    const int64_t from = token[place.row];
    v = load_pack(x + from * dim, place.i, dim);
    if (weight) {
      const float scale = weight[from * num_chosen + slot[place.row]];
      v = make_pack([&](int k) { return v.v[k] * scale; });
    }
  }
  store_pack(y + place.row * dim, place.i, dim, v);
}

__device__ __forceinline__ void add_scaled(Pack& sum, const Pack& x, float weight) {
#pragma unroll
  for (int k = 0; k < kPack; ++k) sum.v[k] += x.v[k] * weight;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    combine_rows_kernel(CombinedRows<T> rows, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  Pack sum = {};
  if (place.row < rows.num_tokens) {
    for (int64_t at = place.row * rows.num_chosen; at < (place.row + 1) * rows.num_chosen; ++at) {
      const T* const row = rows.rows_of_expert[rows.expert[at]] + rows.row[at] * dim;
      add_scaled(sum, load_pack(row, place.i, dim), rows.weight ? rows.weight[at] : 1.0f);
    }
  }
#pragma unroll
  for (int term = 0; term < kMaxTerms; ++term) {
    if (term >= rows.num_terms) break;
    const WeightedTerm<T>& more = rows.terms[term];
    add_scaled(sum, load_pack(more.rows + place.row * dim, place.i, dim), more.weight ? more.weight[place.row] : 1.0f);
  }
  store_pack(y + place.row * dim, place.i, dim, sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_rows_kernel(const T* x, const float* weight, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  Pack scaled = {};
  add_scaled(scaled, load_pack(x + place.row * dim, place.i, dim), weight[place.row]);
  store_pack(y + place.row * dim, place.i, dim, scaled);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    row_dots_kernel(const T* a, const T* b, int64_t b_stride, float* dots, int64_t num_rows, int64_t dim) {
  const int64_t row = thread_index() / kWarp, lane = threadIdx.x % kWarp;
  if (row >= num_rows) return;
  float sum = 0;
  for (int64_t i = lane * kPack; i < dim; i += kWarp * kPack) {
    const Pack x = load_pack(a + row * dim, i, dim), y = load_pack(b + row * b_stride, i, dim);
#pragma unroll
    for (int k = 0; k < kPack; ++k) sum += x.v[k] * y.v[k];
  }
  sum = reduce_warp<Add>(sum);
  if (lane == 0) dots[row] = sum;
}

void check_router(const RouterShape& shape) {
  if (shape.num_chosen > kMaxChosenExperts || shape.num_chosen > shape.num_experts)
    throw std::logic_error("a token has at most 32 experts on a GPU, and at most all");
}

}  // namespace

template <class T>
void route(const RouterShape& shape, const T* logits, float* probability, float* weight, int32_t* expert,
           cudaStream_t stream) {
  check_router(shape);
  launch(route_kernel<T>, blocks_for(shape.num_tokens * kWarp), kThreads, 0, stream, shape, logits, probability, weight,
         expert);
}

template <class T>
void route_backward(const RouterShape& shape, const float* probability, const int32_t* expert, const float* weighted,
                    const double* dprobability, T* dlogits, cudaStream_t stream) {
  check_router(shape);
  launch(route_backward_kernel<T>, blocks_for(shape.num_tokens * kWarp), kThreads, 0, stream, shape, probability,
         expert, weighted, dprobability, dlogits);
}

template <class T>
void gather_expert_rows(const T* x, const int32_t* token, const int32_t* slot, const float* weight, int64_t num_chosen,
                        int64_t count, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  launch(gather_expert_rows_kernel<T>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, x, token, slot,
         weight, num_chosen, count, y, num_rows, dim);
}

template <class T>
void combine_rows(const CombinedRows<T>& rows, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  if (rows.num_terms > kMaxTerms) throw std::logic_error("at most 4 terms beside those of the experts");
  launch(combine_rows_kernel<T>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, rows, y, num_rows, dim);
}

template <class T>
void scale_rows(const T* x, const float* weight, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  launch(scale_rows_kernel<T>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, x, weight, y, num_rows, dim);
}

template <class T>
void row_dots(const T* a, const T* b, int64_t b_stride, float* dots, int64_t num_rows, int64_t dim,
              cudaStream_t stream) {
  launch(row_dots_kernel<T>, blocks_for(num_rows * kWarp), kThreads, 0, stream, a, b, b_stride, dots, num_rows, dim);
}

#define PLUMB_INSTANTIATE(T)                                                                                      \
  template void route(const RouterShape&, const T*, float*, float*, int32_t*, cudaStream_t);                      \
  template void route_backward(const RouterShape&, const float*, const int32_t*, const float*, const double*, T*, \
                               cudaStream_t);                                                                     \
  template void gather_expert_rows(const T*, const int32_t*, const int32_t*, const float*, int64_t, int64_t, T*,  \
                                   int64_t, int64_t, cudaStream_t);                                               \
  template void combine_rows(const CombinedRows<T>&, T*, int64_t, int64_t, cudaStream_t);                         \
  template void scale_rows(const T*, const float*, T*, int64_t, int64_t, cudaStream_t);                           \
  template void row_dots(const T*, const T*, int64_t, float*, int64_t, int64_t, cudaStream_t);
PLUMB_INSTANTIATE(float)
PLUMB_INSTANTIATE(BFloat16)

}  // namespace plumb::cuda
