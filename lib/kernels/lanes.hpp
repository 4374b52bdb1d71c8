// Sixteen floats at a time in the compiler's vector type, which maps to the registers of the instruction set. Included
// by the files that are compiled once per instruction set, each time with its own PLUMB_ISA.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "lib/kernels/kernels.hpp"

namespace plumb::PLUMB_ISA {

namespace {

constexpr int64_t kLanes = 16;
using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

inline Floats broadcast(float value) {  // from memory it is a load; Floats{} + value would be an addition, too
  return Floats{value, value, value, value, value, value, value, value,
                value, value, value, value, value, value, value, value};
}

inline Floats load(const float* p) {
  Floats x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, Floats x) { std::memcpy(p, &x, sizeof x); }

inline Floats load(const BFloat16* p) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return std::bit_cast<Floats>(__builtin_convertvector(h, Words) << 16);
}
inline void store(BFloat16* p, Floats x) {  // round to nearest even; a NaN stays one
  const Words bits = std::bit_cast<Words>(x);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Words is_nan = std::bit_cast<Words>(x != x);
  const Halves h = __builtin_convertvector((rounded & ~is_nan) | ((bits >> 16 | 0x40u) & is_nan), Halves);
  std::memcpy(p, &h, sizeof h);
}

}  // namespace

}  // namespace plumb::PLUMB_ISA
