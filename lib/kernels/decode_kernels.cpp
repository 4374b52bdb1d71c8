// Which bfloat16 kernels of text generation this processor can execute: beside the instruction sets of kernels.cpp, two
// extensions of the highest. Those of float are in its tables.
#include "lib/kernels/decode_kernels.hpp"

#include <vector>

// as kernels.cpp has it
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
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

#ifdef PLUMB_HAS_LEVELS
bool has_bfloat16_pairs() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBit = 1u << 5;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBit) != 0;
}

/// Also asks Linux for the tile registers, which it grants to a process once and for all its threads.
bool has_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTilesAndBfloat16 = (1u << 24) | (1u << 22);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTilesAndBfloat16) != kTilesAndBfloat16) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

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
  if (has_tiles()) found.push_back(&kTiles);
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
