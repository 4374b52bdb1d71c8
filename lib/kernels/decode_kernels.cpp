// Which bfloat16 kernels of text generation this processor can execute: beside the instruction sets of kernels.cpp, two
// extensions of the highest. Those of float are in its tables.
#include "lib/kernels/decode_kernels.hpp"

#include <vector>

#include "lib/kernels/extensions.hpp"

// as kernels.cpp has it
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
#endif

namespace plumb {

#define PLUMB_DECLARE(isa)                                     \
  namespace isa {                                              \
  extern const DecodeKernels<BFloat16> kBFloat16DecodeKernels; \
  }
PLUMB_DECLARE(generic)
#ifdef PLUMB_HAS_LEVELS
PLUMB_DECLARE(x86_64_v3)
PLUMB_DECLARE(x86_64_v4)
namespace x86_64_v4 {
void multiply_pairs(const RowsProduct<BFloat16>& product);
void multiply_in_tiles(const RowsProduct<BFloat16>& product);
}  // namespace x86_64_v4
#endif

namespace {

/// Fastest last.
std::vector<const DecodeKernels<BFloat16>*> find_bfloat16_kernels() {
  std::vector<const DecodeKernels<BFloat16>*> found = {&generic::kBFloat16DecodeKernels};
#ifdef PLUMB_HAS_LEVELS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v3")) found.push_back(&x86_64_v3::kBFloat16DecodeKernels);
  if (!__builtin_cpu_supports("x86-64-v4")) return found;
  found.push_back(&x86_64_v4::kBFloat16DecodeKernels);
  const auto attend = x86_64_v4::kBFloat16DecodeKernels.attend;
  static const DecodeKernels<BFloat16> kPairs = {&x86_64_v4::multiply_pairs, attend, "AVX512-BF16"};
  if (has_bfloat16_pairs()) found.push_back(&kPairs);
  static const DecodeKernels<BFloat16> kTiles = {&x86_64_v4::multiply_in_tiles, attend, "AMX"};
  if (has_bfloat16_tiles()) found.push_back(&kTiles);
#endif
  return found;
}

}  // namespace

const std::vector<const DecodeKernels<BFloat16>*>& all_bfloat16_decode_kernels() {
  static const std::vector<const DecodeKernels<BFloat16>*> found = find_bfloat16_kernels();
  return found;
}

template <>
const DecodeKernels<BFloat16>& decode_kernels<BFloat16>() {
  return *all_bfloat16_decode_kernels().back();
}

}  // namespace plumb
