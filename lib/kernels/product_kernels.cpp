#include "lib/kernels/product_kernels.hpp"

#include "lib/kernels/extensions.hpp"

namespace plumb {

// as kernels.cpp has it
#if defined(__x86_64__) && !defined(__clang__)
#define PLUMB_HAS_LEVELS
namespace x86_64_v4 {
void multiply_by_pairs(const PairProduct<BFloat16>& product);
void multiply_by_pairs_to_float(const PairProduct<float>& product);
void multiply_by_tiles(const PairProduct<BFloat16>& product);
void multiply_by_tiles_to_float(const PairProduct<float>& product);
}  // namespace x86_64_v4
#endif

namespace {

std::vector<PairKernels> find_pair_kernels() {
  std::vector<PairKernels> found;
#ifdef PLUMB_HAS_LEVELS
  if (!has_bfloat16_pairs()) return found;
  found.push_back({&x86_64_v4::multiply_by_pairs, &x86_64_v4::multiply_by_pairs_to_float, "AVX512-BF16"});
  if (has_bfloat16_tiles())
    found.push_back({&x86_64_v4::multiply_by_tiles, &x86_64_v4::multiply_by_tiles_to_float, "AMX"});
#endif
  return found;
}

}  // namespace

const std::vector<PairKernels>& all_pair_kernels() {
  static const std::vector<PairKernels> found = find_pair_kernels();
  return found;
}

const PairKernels* pair_kernels() {
  static const PairKernels* const fastest = all_pair_kernels().empty() ? nullptr : &all_pair_kernels().back();
  return fastest;
}

}  // namespace plumb
