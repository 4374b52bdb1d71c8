// Implementation of expert_kernels.hpp, compiled once per instruction set like kernels_isa.cpp.
#include "lib/kernels/expert_kernels.hpp"
#include "lib/kernels/lane_math.hpp"

namespace plumb::PLUMB_ISA {

namespace {

template <class T>
void weighted_sum(const T* const* rows, const float* weights, int64_t count, T* y, int64_t dim) {
  for_lanes(dim, [&](auto get, auto put, int64_t i) {
    Floats sum{};
    for (int64_t row = 0; row < count; ++row) sum += get(rows[row] + i) * weights[row];
    put(y + i, sum);
  });
}

template <class T>
float dot(const T* a, const T* b, int64_t dim) {
  Floats sums{};
  for_lanes(dim, [&](auto get, auto, int64_t i) { sums += get(a + i) * get(b + i); });
  return sum_lanes(sums);
}

/// Keeps a NaN, which min_of and max_of would replace.
inline Floats clamp_above(Floats x, Floats most) { return x > most ? most : x; }
inline Floats clamp_below(Floats x, Floats least) { return x < least ? least : x; }

template <class T>
void clamped_swiglu(const T* gate_up, T* y, int64_t num_rows, int64_t dim, ClampedSwiglu shape) {
  const Floats limit = broadcast(shape.limit);
  for (int64_t row = 0; row < num_rows; ++row, gate_up += 2 * dim, y += dim)
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats gate = clamp_above(get(gate_up + i), limit);
      const Floats up = clamp_below(clamp_above(get(gate_up + dim + i), limit), -limit);
      // in the order of the backward pass, so that y has the same bits
      put(y + i, (up + 1.0f) * (gate * sigmoid_of(gate * shape.alpha)));
    });
}

template <class T>
void clamped_swiglu_backward(const T* dy, const T* gate_up, T* dgate_up, T* y, int64_t num_rows, int64_t dim,
                             ClampedSwiglu shape) {
  const Floats limit = broadcast(shape.limit), zero{};
  for (int64_t row = 0; row < num_rows; ++row, gate_up += 2 * dim, dgate_up += 2 * dim, y += dim, dy += dim)
    for_lanes(dim, [&](auto get, auto put, int64_t i) {
      const Floats raw_gate = get(gate_up + i), raw_up = get(gate_up + dim + i), d = get(dy + i);
      const Floats gate = clamp_above(raw_gate, limit), up = clamp_below(clamp_above(raw_up, limit), -limit);
      const Floats sigmoid = sigmoid_of(gate * shape.alpha), glu = gate * sigmoid;
      const Floats dgate = d * (up + 1.0f) * (sigmoid + shape.alpha * glu * (1.0f - sigmoid));
      put(y + i, (up + 1.0f) * glu);
      put(dgate_up + i, raw_gate >= limit ? zero : dgate);
      put(dgate_up + dim + i, raw_up >= limit || raw_up <= -limit ? zero : d * glu);
    });
}

template <class T>
constexpr ExpertKernels<T> kTable = {&weighted_sum<T>, &dot<T>, &clamped_swiglu<T>, &clamped_swiglu_backward<T>};

}  // namespace

extern const ExpertKernels<float> kFloatExpertKernels = kTable<float>;
extern const ExpertKernels<BFloat16> kBFloat16ExpertKernels = kTable<BFloat16>;

}  // namespace plumb::PLUMB_ISA
