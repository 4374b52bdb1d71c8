#include "lib/kernels/kernels.hpp"

#include "lib/kernels/decode_kernels.hpp"
#include "lib/kernels/expert_kernels.hpp"

namespace plumb {

#define PLUMB_DECLARE(isa)                                             \
  namespace isa {                                                      \
  extern const ActivationKernels<float> kFloatActivationKernels;       \
  extern const ActivationKernels<BFloat16> kBFloat16ActivationKernels; \
  extern const ExpertKernels<float> kFloatExpertKernels;               \
  extern const ExpertKernels<BFloat16> kBFloat16ExpertKernels;         \
  extern const DecodeKernels<float> kFloatDecodeKernels;               \
  extern const SamplingKernels kSamplingKernels;                       \
  extern const FloatKernels kFloatKernels;                             \
  extern const Nf4Kernels kNf4Kernels;                                 \
  }
PLUMB_DECLARE(generic)
// CMakeLists.txt builds these levels on x86-64 with g++ only; clang 16 has no __builtin_cpu_supports for levels
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
PLUMB_DECLARE(x86_64_v3)
PLUMB_DECLARE(x86_64_v4)
#endif

namespace {

struct Tables {
  const ActivationKernels<float>* of_float;
  const ActivationKernels<BFloat16>* of_bfloat16;
  const ExpertKernels<float>* experts_of_float;
  const ExpertKernels<BFloat16>* experts_of_bfloat16;
  const DecodeKernels<float>* decoding_of_float;
  const SamplingKernels* sampling;
  const FloatKernels* plain;
  const Nf4Kernels* nf4;
  const char* name;
};

#define PLUMB_TABLES(isa)                                                                                     \
  Tables {                                                                                                    \
    &isa::kFloatActivationKernels, &isa::kBFloat16ActivationKernels, &isa::kFloatExpertKernels,               \
        &isa::kBFloat16ExpertKernels, &isa::kFloatDecodeKernels, &isa::kSamplingKernels, &isa::kFloatKernels, \
        &isa::kNf4Kernels, #isa                                                                               \
  }

Tables choose_tables() {
#ifdef PLUMB_HAS_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return PLUMB_TABLES(x86_64_v4);
  if (__builtin_cpu_supports("x86-64-v3")) return PLUMB_TABLES(x86_64_v3);
#endif
  return PLUMB_TABLES(generic);
}

const Tables& tables() {
  static const Tables chosen = choose_tables();
  return chosen;
}

}  // namespace

template <>
const ActivationKernels<float>& activation_kernels<float>() {
  return *tables().of_float;
}
template <>
const ActivationKernels<BFloat16>& activation_kernels<BFloat16>() {
  return *tables().of_bfloat16;
}
template <>
const ExpertKernels<float>& expert_kernels<float>() {
  return *tables().experts_of_float;
}
template <>
const ExpertKernels<BFloat16>& expert_kernels<BFloat16>() {
  return *tables().experts_of_bfloat16;
}
template <>
const DecodeKernels<float>& decode_kernels<float>() {
  return *tables().decoding_of_float;
}
const SamplingKernels& sampling_kernels() { return *tables().sampling; }
const FloatKernels& float_kernels() { return *tables().plain; }
const Nf4Kernels& nf4_kernels() { return *tables().nf4; }
const char* kernel_instruction_set() { return tables().name; }

}  // namespace plumb
