// DecodeKernels::multiply_rows in bfloat16 by VDPBF16PS, which multiplies pairs of elements and adds both to a float.
#include <immintrin.h>

#include "lib/kernels/rows_product.hpp"

namespace plumb::PLUMB_ISA {

namespace {

struct PairTerms {
  using Vector = __m512bh;
  static constexpr int64_t kElements = 2 * kLanes;
  static Vector get(const BFloat16* p) { return (__m512bh)_mm512_loadu_si512(p); }
  static Vector get_some(const BFloat16* p, int64_t n) {
    return (__m512bh)_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << n) - 1), p);
  }
  static Floats add(Floats sum, Vector x, Vector w) { return (Floats)_mm512_dpbf16_ps((__m512)sum, x, w); }
};

}  // namespace

void multiply_pairs(const RowsProduct<BFloat16>& product) { multiply_rows<PairTerms>(product); }

}  // namespace plumb::PLUMB_ISA
