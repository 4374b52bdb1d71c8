// Every compiled copy of the kernels that this processor can run, and how far a result may lie from the float64
// reference. Each copy is held to the reference, so the copies agree with each other to within twice each tolerance.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cstring>
#include <type_traits>
#include <vector>

#include "lib/kernels/kernels.hpp"
#include "lib/nn/tensor_kernels.hpp"

namespace plumb {

#define PLUMB_DECLARE(isa)                                             \
  namespace isa {                                                      \
  extern const ActivationKernels<float> kFloatActivationKernels;       \
  extern const ActivationKernels<BFloat16> kBFloat16ActivationKernels; \
  extern const FloatKernels kFloatKernels;                             \
  extern const Nf4Kernels kNf4Kernels;                                 \
  }
PLUMB_DECLARE(generic)
// as kernels.cpp has it
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
PLUMB_DECLARE(x86_64_v3)
PLUMB_DECLARE(x86_64_v4)
#endif

struct KernelCopy {
  const char* name;
  const ActivationKernels<float>* of_float;
  const ActivationKernels<BFloat16>* of_bfloat16;
  const FloatKernels* plain;
  const Nf4Kernels* nf4;
};
#define PLUMB_COPY(isa)                                                                                           \
  KernelCopy {                                                                                                    \
#isa, &isa::kFloatActivationKernels, &isa::kBFloat16ActivationKernels, &isa::kFloatKernels, &isa::kNf4Kernels \
  }

/// Slowest first.
inline std::vector<KernelCopy> copies() {
  std::vector<KernelCopy> found = {PLUMB_COPY(generic)};
#ifdef PLUMB_HAS_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) found.push_back(PLUMB_COPY(x86_64_v3));
  if (__builtin_cpu_supports("x86-64-v4")) found.push_back(PLUMB_COPY(x86_64_v4));
#endif
  return found;
}

// Half a unit in the last place of 1: what storing a result costs, relative to it.
inline constexpr double kFloatRoundoff = 0x1p-24, kBFloat16Roundoff = 0x1p-8;

// Rows and sizes below, at and beside multiples of the 16 lanes.
inline constexpr int64_t kRowCounts[] = {1, 3};
inline constexpr int64_t kDims[] = {1, 5, 16, 17, 31, 64, 100, 576};

template <class T>
class Kernels : public testing::Test {
 protected:
  static constexpr bool kIsFloat = std::is_same_v<T, float>;
  static constexpr at::ScalarType kDtype = kIsFloat ? at::kFloat : at::kBFloat16;
  static constexpr double kStored = kIsFloat ? 0 : kBFloat16Roundoff;  // on top of what float32 arithmetic costs

  void SetUp() override { at::manual_seed(1); }

  static at::Tensor randn(at::IntArrayRef shape) { return at::randn(shape).to(kDtype); }

  /// body(kernels of T)
  template <class Body>
  static void for_each_copy(Body body) {
    for (const KernelCopy& copy : copies()) {
      SCOPED_TRACE(copy.name);
      if constexpr (kIsFloat)
        body(*copy.of_float);
      else
        body(*copy.of_bfloat16);
    }
  }
};
using ElementTypes = testing::Types<float, BFloat16>;

inline at::Tensor floats(at::IntArrayRef shape) { return at::zeros(shape, at::kFloat); }

/// Largest |got - expected| / magnitude, element by element; NaN if one is.
inline double error_of(const at::Tensor& got, const at::Tensor& expected, const at::Tensor& magnitude) {
  return ((got.to(at::kDouble) - expected).abs() / magnitude).max().template item<double>();
}
inline double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  return error_of(got, expected, expected.abs() + 1e-30);  // where zero is expected, zero
}
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.nbytes() == b.nbytes() && std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

}  // namespace plumb
