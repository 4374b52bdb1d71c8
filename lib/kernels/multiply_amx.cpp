// PairKernels by TDPBF16PS: two tiles of rows of a with two tiles of columns of b, so that each is loaded once for two
// products.
#include "lib/kernels/pair_product.hpp"
#include "lib/kernels/tile_registers.hpp"

namespace plumb::PLUMB_ISA {

namespace {

constexpr int64_t kTile = kLanes;  // rows of a tile, and its columns of 4 bytes
constexpr int64_t kPanelBytes = kPanelColumns * sizeof(float);

template <bool kHasSecondRows, bool kHasSecondColumns>
void multiply_tiles(const TileProduct& t) {
  float* const below = t.sums + kTile * kPanelColumns;
  if (t.continues) {
    _tile_loadd(0, t.sums, kPanelBytes);
    if constexpr (kHasSecondColumns) _tile_loadd(1, t.sums + kTile, kPanelBytes);
    if constexpr (kHasSecondRows) _tile_loadd(2, below, kPanelBytes);
    if constexpr (kHasSecondRows && kHasSecondColumns) _tile_loadd(3, below + kTile, kPanelBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const BFloat16 *a = t.a, *b = t.b;
  const int64_t a_row_bytes = t.a_row_stride * static_cast<int64_t>(sizeof(BFloat16));
  for (int64_t step = 0; step < t.depth_steps; ++step, a += kDepthStep, b += kDepthStep * kPanelColumns) {
    _tile_loadd(6, b, kPanelBytes);
    _tile_loadd(4, a, a_row_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kHasSecondColumns) {
      _tile_loadd(7, b + kPanelColumns, kPanelBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kHasSecondRows) {
      _tile_loadd(5, a + kTile * t.a_row_stride, a_row_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kHasSecondColumns) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, t.sums, kPanelBytes);
  if constexpr (kHasSecondColumns) _tile_stored(1, t.sums + kTile, kPanelBytes);
  if constexpr (kHasSecondRows) _tile_stored(2, below, kPanelBytes);
  if constexpr (kHasSecondRows && kHasSecondColumns) _tile_stored(3, below + kTile, kPanelBytes);
}

struct MatrixTile {
  static constexpr int64_t kRows = 2 * kTile;

  static void multiply(const TileProduct& t) {
    const bool has_second_rows = t.rows > kTile, has_second_columns = t.columns > kTile;
    if (has_second_rows && has_second_columns) return multiply_tiles<true, true>(t);
    if (has_second_rows) return multiply_tiles<true, false>(t);
    if (has_second_columns) return multiply_tiles<false, true>(t);
    multiply_tiles<false, false>(t);
  }
};
static_assert(kPairPartRows % MatrixTile::kRows == 0 && kPairPartColumns == kPanelColumns);

}  // namespace

void multiply_by_tiles(const PairProduct<BFloat16>& product) {
  const TileRegisters registers;
  multiply_blocks<MatrixTile>(product);
}
void multiply_by_tiles_to_float(const PairProduct<float>& product) {
  const TileRegisters registers;
  multiply_blocks<MatrixTile>(product);
}

}  // namespace plumb::PLUMB_ISA
