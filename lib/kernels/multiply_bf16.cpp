// PairKernels by VDPBF16PS, which multiplies pairs of elements and adds both to a float.
#include "lib/kernels/pair_product.hpp"

namespace plumb::PLUMB_ISA {

namespace {

struct VectorTile {
  static constexpr int64_t kRows = 12;  // with two vectors of columns, 24 of the 32 registers

  static void multiply(const TileProduct& t) {
    __m512 sum[kRows][2];
#pragma GCC unroll 12
    for (int64_t i = 0; i < kRows; ++i) {
      sum[i][0] = t.continues ? _mm512_load_ps(t.sums + i * kPanelColumns) : _mm512_setzero_ps();
      sum[i][1] = t.continues ? _mm512_load_ps(t.sums + i * kPanelColumns + kLanes) : _mm512_setzero_ps();
    }
    for (int64_t pair = 0; pair < t.depth_steps * kDepthStep / 2; ++pair) {
      const BFloat16* const b = t.b + pair * 2 * kPanelColumns;
      const auto low = (__m512bh)_mm512_load_si512(b), high = (__m512bh)_mm512_load_si512(b + kPanelColumns);
#pragma GCC unroll 12
      for (int64_t i = 0; i < kRows; ++i) {
        int32_t elements;
        std::memcpy(&elements, t.a + i * t.a_row_stride + 2 * pair, sizeof elements);
        const auto a = (__m512bh)_mm512_set1_epi32(elements);
        sum[i][0] = _mm512_dpbf16_ps(sum[i][0], a, low);
        sum[i][1] = _mm512_dpbf16_ps(sum[i][1], a, high);
      }
    }
#pragma GCC unroll 12
    for (int64_t i = 0; i < kRows; ++i) {
      _mm512_store_ps(t.sums + i * kPanelColumns, sum[i][0]);
      _mm512_store_ps(t.sums + i * kPanelColumns + kLanes, sum[i][1]);
    }
  }
};
static_assert(kPairPartRows % VectorTile::kRows == 0 && kPairPartColumns == kPanelColumns);

}  // namespace

void multiply_by_pairs(const PairProduct<BFloat16>& product) { multiply_blocks<VectorTile>(product); }
void multiply_by_pairs_to_float(const PairProduct<float>& product) { multiply_blocks<VectorTile>(product); }

}  // namespace plumb::PLUMB_ISA
