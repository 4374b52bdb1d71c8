// Rows of any length, sixteen elements at a time, and functions of sixteen floats. Included by the files that are
// compiled once per instruction set, like lanes.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "lib/kernels/lanes.hpp"

namespace plumb::PLUMB_ISA {

namespace {

// The tail of a row, fewer than kLanes elements, uses the same vector code on a padded copy.
template <class T>
inline Floats load_some(const T* p, int64_t n, float fill = 0) {
  float x[kLanes];
  std::fill(x, x + kLanes, fill);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<T, float>)
      x[i] = p[i];
    else
      x[i] = std::bit_cast<float>(uint32_t{p[i].bits} << 16);
  }
  return load(x);
}
template <class T>
inline void store_some(T* p, Floats x, int64_t n) {
  T y[kLanes];
  store(y, x);
  std::memcpy(p, y, n * sizeof(T));
}

/// Calls body(load, store, i) for i in steps of 16 up to n; load(p, fill) and store(p, x) handle the tail.
template <class Body>
inline void for_lanes(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    body([](const auto* p, float = 0) { return load(p); }, [](auto* p, Floats x) { store(p, x); }, i);
  if (i < n) {
    const int64_t rest = n - i;
    body([rest](const auto* p, float fill = 0) { return load_some(p, rest, fill); },
         [rest](auto* p, Floats x) { store_some(p, x, rest); }, i);
  }
}

inline float sum_lanes(Floats x) {
  for (int width = 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  return x[0];
}
inline float max_lanes(Floats x) {
  float most = x[0];
  for (int i = 1; i < kLanes; ++i) most = std::max(most, x[i]);
  return most;
}
/// Transposes x: each of four rounds rotates the eight bits of (i, j) by one.
inline void transpose(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
    Floats y[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      y[2 * i] = __builtin_shufflevector(x[i], x[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      y[2 * i + 1] =
          __builtin_shufflevector(x[i], x[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

inline Floats max_of(Floats a, Floats b) { return a > b ? a : b; }
inline Floats min_of(Floats a, Floats b) { return a < b ? a : b; }

/// exp, to 2 units in the last place: 2^n times a polynomial on [-ln2/2, ln2/2] (coefficients of Cephes expf).
inline Floats exp_of(Floats x) {
  x = min_of(max_of(x, broadcast(-87.3f)), broadcast(88.7f));
  const Floats shifter = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Floats shifted = x * 1.44269504088896341f + shifter;
  const Floats n = shifted - shifter;
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Ints exponent = __builtin_convertvector(n, Ints);
  return std::bit_cast<Floats>(std::bit_cast<Ints>(p) + (exponent << 23));
}
inline Floats sigmoid_of(Floats x) { return 1.0f / (1.0f + exp_of(-x)); }

}  // namespace

}  // namespace plumb::PLUMB_ISA
