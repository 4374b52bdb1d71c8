#include "lib/kernels/extensions.hpp"

// as kernels.cpp has it
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace plumb {

#ifdef PLUMB_HAS_LEVELS

namespace {

bool has_level() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("x86-64-v4") != 0;
}

}  // namespace

bool has_bfloat16_pairs() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBit = 1u << 5;
  return has_level() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBit) != 0;
}

bool has_bfloat16_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTilesAndBfloat16 = (1u << 24) | (1u << 22);
  if (!has_level() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTilesAndBfloat16) != kTilesAndBfloat16)
    return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

#else

bool has_bfloat16_pairs() { return false; }
bool has_bfloat16_tiles() { return false; }

#endif

}  // namespace plumb
