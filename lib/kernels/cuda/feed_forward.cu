// Feed-forward networks between their two products, element by element.
#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

/// An activation and its derivative at one point.
struct Activated {
  float value, slope;
};
__device__ __forceinline__ float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }

struct Silu {
  __device__ static Activated at(float x) {
    const float sigmoid = sigmoid_of(x), silu = x * sigmoid;
    return {silu, sigmoid + silu * (1.0f - sigmoid)};
  }
};
/// x (1 + tanh(u)) / 2 with u = c (x + 0.044715 x^3), which is x sigmoid(2 u).
struct GeluTanh {
  __device__ static Activated at(float x) {
    constexpr float kTwoC = 2 * 0.7978845608028654f, kCubic = 0.044715f;
    const float sigmoid = sigmoid_of(kTwoC * (x + kCubic * x * x * x));
    return {x * sigmoid, sigmoid + x * sigmoid * (1.0f - sigmoid) * (kTwoC * (1.0f + 3 * kCubic * x * x))};
  }
};

/// One element of a network: y, and the factors of its gradient for those of gate and up.
struct Gated {
  float y, dgate, dup;
};
template <class Function>
struct GatedBy {
  __device__ Gated at(float gate, float up) const {
    const Activated activated = Function::at(gate);
    return {activated.value * up, up * activated.slope, activated.value};
  }
};
struct GatedClamped {
  ClampedSwiglu shape;
  /// Comparisons are so that a NaN stays one.
  __device__ Gated at(float raw_gate, float raw_up) const {
    const float limit = shape.limit;
    const float gate = raw_gate > limit ? limit : raw_gate;
    const float below = raw_up > limit ? limit : raw_up, up = below < -limit ? -limit : below;
    const float sigmoid = sigmoid_of(gate * shape.alpha), glu = gate * sigmoid;
    const float dgate = (up + 1.0f) * (sigmoid + shape.alpha * glu * (1.0f - sigmoid));
    return {(up + 1.0f) * glu, raw_gate >= limit ? 0.0f : dgate, raw_up >= limit || raw_up <= -limit ? 0.0f : glu};
  }
};

template <class T, class Gate>
__global__ void __launch_bounds__(kThreads) gated_kernel(Gate by, const T* x, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  const T* const row = x + place.row * 2 * dim;
  const Pack gate = load_pack(row, place.i, dim), up = load_pack(row + dim, place.i, dim);
  store_pack(y + place.row * dim, place.i, dim, make_pack([&](int k) { return by.at(gate.v[k], up.v[k]).y; }));
}

template <class T, class Gate>
__global__ void __launch_bounds__(kThreads)
    gated_backward_kernel(Gate by, const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim) {
  const PackPlace place = pack_place(dim);
  if (place.row >= num_rows) return;
  const int64_t offset = place.row * 2 * dim;
  const Pack gate = load_pack(x + offset, place.i, dim), up = load_pack(x + offset + dim, place.i, dim),
             d = load_pack(dy + place.row * dim, place.i, dim);
  Pack out, dgate, dup;
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const Gated gated = by.at(gate.v[k], up.v[k]);
    out.v[k] = gated.y;
    dgate.v[k] = d.v[k] * gated.dgate;
    dup.v[k] = d.v[k] * gated.dup;
  }
  store_pack(y + place.row * dim, place.i, dim, out);
  store_pack(dx + offset, place.i, dim, dgate);
  store_pack(dx + offset + dim, place.i, dim, dup);
}

template <class T>
__global__ void __launch_bounds__(kThreads) gelu_kernel(const T* x, T* y, int64_t n) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  const Pack v = load_pack(x, i, n);
  store_pack(y, i, n, make_pack([&](int k) { return GeluTanh::at(v.v[k]).value; }));
}

template <class T>
__global__ void __launch_bounds__(kThreads) gelu_backward_kernel(const T* dy, const T* x, T* dx, T* y, int64_t n) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  const Pack v = load_pack(x, i, n), d = load_pack(dy, i, n);
  store_pack(y, i, n, make_pack([&](int k) { return GeluTanh::at(v.v[k]).value; }));
  store_pack(dx, i, n, make_pack([&](int k) { return d.v[k] * GeluTanh::at(v.v[k]).slope; }));
}

template <class T, class Gate>
void launch_gated(Gate by, const T* x, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  launch(gated_kernel<T, Gate>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, by, x, y, num_rows, dim);
}
template <class T, class Gate>
void launch_gated_backward(Gate by, const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim,
                           cudaStream_t stream) {
  launch(gated_backward_kernel<T, Gate>, blocks_for(num_packs(num_rows, dim)), kThreads, 0, stream, by, dy, x, dx, y,
         num_rows, dim);
}

}  // namespace

template <class T>
void feed_forward(Activation kind, const T* x, T* y, int64_t num_rows, int64_t dim, cudaStream_t stream) {
  if (kind == Activation::kSwiGlu) return launch_gated(GatedBy<Silu>(), x, y, num_rows, dim, stream);
  if (kind == Activation::kGeGlu) return launch_gated(GatedBy<GeluTanh>(), x, y, num_rows, dim, stream);
  launch(gelu_kernel<T>, blocks_for(num_packs(1, num_rows * dim)), kThreads, 0, stream, x, y, num_rows * dim);
}

template <class T>
void feed_forward_backward(Activation kind, const T* dy, const T* x, T* dx, T* y, int64_t num_rows, int64_t dim,
                           cudaStream_t stream) {
  if (kind == Activation::kSwiGlu) return launch_gated_backward(GatedBy<Silu>(), dy, x, dx, y, num_rows, dim, stream);
  if (kind == Activation::kGeGlu)
    return launch_gated_backward(GatedBy<GeluTanh>(), dy, x, dx, y, num_rows, dim, stream);
  launch(gelu_backward_kernel<T>, blocks_for(num_packs(1, num_rows * dim)), kThreads, 0, stream, dy, x, dx, y,
         num_rows * dim);
}

template <class T>
void clamped_swiglu(const T* gate_up, T* y, int64_t num_rows, int64_t dim, ClampedSwiglu shape, cudaStream_t stream) {
  launch_gated(GatedClamped{shape}, gate_up, y, num_rows, dim, stream);
}

template <class T>
void clamped_swiglu_backward(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim,
                             ClampedSwiglu shape, cudaStream_t stream) {
  launch_gated_backward(GatedClamped{shape}, dy, gate_up, dgate_up, y, num_rows, dim, stream);
}

#define PLUMB_INSTANTIATE(T)                                                                                   \
  template void feed_forward(Activation, const T*, T*, int64_t, int64_t, cudaStream_t);                        \
  template void feed_forward_backward(Activation, const T*, const T*, T*, T*, int64_t, int64_t, cudaStream_t); \
  template void clamped_swiglu(const T*, T*, int64_t, int64_t, ClampedSwiglu, cudaStream_t);                   \
  template void clamped_swiglu_backward(const T*, const T*, T*, T*, int64_t, int64_t, ClampedSwiglu, cudaStream_t);
PLUMB_INSTANTIATE(float)
PLUMB_INSTANTIATE(BFloat16)

}  // namespace plumb::cuda
