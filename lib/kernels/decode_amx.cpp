// DecodeKernels::multiply_rows in bfloat16 by TDPBF16PS. A tile of sixteen outputs is loaded from the weights as they
// are, and the rows of x are packed once as the other factor: what is computed is y^T = W x^T.
#include <memory>
#include <new>

#include "lib/kernels/decode_kernels.hpp"
#include "lib/kernels/lane_math.hpp"
#include "lib/kernels/tile_registers.hpp"

namespace plumb::PLUMB_ISA {

namespace {

constexpr int64_t kTile = 16;          // rows of a tile, and its columns of 4 bytes
constexpr int64_t kDepth = 2 * kTile;  // elements of bfloat16 in a row of a tile
constexpr int64_t kTileBytes = 64 * kTile;

/// Rows of x, sixteen at a time, as second factors: [16 rows][tiles of depth][pair][row], each a pair of elements.
class PackedRows {
 public:
  explicit PackedRows(const RowsProduct<BFloat16>& p)
      : num_tiles_((p.depth + kDepth - 1) / kDepth),
        num_blocks_((p.num_rows + kTile - 1) / kTile),
        bytes_(static_cast<std::byte*>(
            ::operator new (static_cast<size_t>(num_blocks_* num_tiles_* kTileBytes), std::align_val_t{64}))) {
    for (int64_t block = 0; block < num_blocks_; ++block)
      for (int64_t tile = 0; tile < num_tiles_; ++tile) pack(p, block, tile);
  }
  int64_t num_tiles() const { return num_tiles_; }
  int64_t num_blocks() const { return num_blocks_; }
  std::byte* tile(int64_t block, int64_t tile) const { return bytes_.get() + (block * num_tiles_ + tile) * kTileBytes; }

 private:
  void pack(const RowsProduct<BFloat16>& p, int64_t block, int64_t tile) {
    const int64_t rows = std::min(kTile, p.num_rows - block * kTile),
                  columns = std::min(kDepth, p.depth - tile * kDepth);
    Floats pairs[kLanes] = {};  // moved, never computed with
    for (int64_t row = 0; row < rows; ++row) {
      BFloat16 elements[kDepth] = {};
      std::memcpy(elements, p.x + (block * kTile + row) * p.x_row_stride + tile * kDepth, columns * sizeof(BFloat16));
      std::memcpy(&pairs[row], elements, sizeof elements);
    }
    transpose(pairs);
    std::memcpy(this->tile(block, tile), pairs, sizeof pairs);
  }

  struct Release {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  int64_t num_tiles_, num_blocks_;
  std::unique_ptr<std::byte, Release> bytes_;
};

/// One tile of the weights, copied beside zeros where the matrix ends within it.
class WeightTile {
 public:
  WeightTile(const RowsProduct<BFloat16>& p, int64_t output, int64_t column) {
    const int64_t rows = std::min(kTile, p.num_outputs - output), columns = std::min(kDepth, p.depth - column);
    first_ = p.weight + output * p.depth + column;
    row_bytes_ = p.depth * static_cast<int64_t>(sizeof(BFloat16));
    if (rows == kTile && columns == kDepth) {
      for (int64_t row = 0; row < kTile; ++row)
        _mm_prefetch(reinterpret_cast<const char*>(first_ + (row + 2 * kTile) * p.depth), _MM_HINT_T1);  // of the next
      return;
    }
    for (int64_t row = 0; row < rows; ++row)
      std::memcpy(copy_[row], first_ + row * p.depth, columns * sizeof(BFloat16));
    for (int64_t row = 0; row < kTile; ++row)
      std::memset(copy_[row] + (row < rows ? columns : 0), 0, (kDepth - (row < rows ? columns : 0)) * sizeof(BFloat16));
    first_ = copy_[0];
    row_bytes_ = sizeof copy_[0];
  }
  const BFloat16* first() const { return first_; }
  int64_t row_bytes() const { return row_bytes_; }

 private:
  const BFloat16* first_;
  int64_t row_bytes_;
  alignas(64) BFloat16 copy_[kTile][kDepth];
};

/// Writes sixteen outputs, of which some may not exist, of sixteen rows, likewise. sums: by output, then row.
void put_tile(const RowsProduct<BFloat16>& p, int64_t output, int64_t row, Floats (&sums)[kLanes]) {
  transpose(sums);
  const int64_t outputs = std::min(kTile, p.num_outputs - output), rows = std::min(kTile, p.num_rows - row);
  const Floats bias = p.bias == nullptr ? Floats{} : load_some(p.bias + output, outputs);
  for (int64_t i = 0; i < rows; ++i) {
    BFloat16* const y = p.y + (row + i) * p.y_row_stride + output;
    const Floats sum = p.bias == nullptr ? sums[i] : sums[i] + bias;
    if (outputs == kTile) {
      store(y, sum);
    } else {
      store_some(y, sum, outputs);
    }
  }
}

/// Two tiles of outputs, or one, with two blocks of rows, or one.
template <bool kHasSecondOutputs, bool kHasSecondRows>
void multiply_tiles(const RowsProduct<BFloat16>& p, const PackedRows& x, int64_t output, int64_t block) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t tile = 0; tile < x.num_tiles(); ++tile) {
    _tile_loadd(6, x.tile(block, tile), 64);
    if constexpr (kHasSecondRows) _tile_loadd(7, x.tile(block + 1, tile), 64);
    const WeightTile first(p, output, tile * kDepth);
    _tile_loadd(4, first.first(), first.row_bytes());
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kHasSecondRows) _tile_dpbf16ps(1, 4, 7);
    if constexpr (kHasSecondOutputs) {
      const WeightTile second(p, output + kTile, tile * kDepth);
      _tile_loadd(5, second.first(), second.row_bytes());
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kHasSecondRows) _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) Floats sums[kLanes];
  _tile_stored(0, sums, 64);
  put_tile(p, output, block * kTile, sums);
  if constexpr (kHasSecondRows) {
    _tile_stored(1, sums, 64);
    put_tile(p, output, (block + 1) * kTile, sums);
  }
  if constexpr (kHasSecondOutputs) {
    _tile_stored(2, sums, 64);
    put_tile(p, output + kTile, block * kTile, sums);
    if constexpr (kHasSecondRows) {
      _tile_stored(3, sums, 64);
      put_tile(p, output + kTile, (block + 1) * kTile, sums);
    }
  }
}

}  // namespace

void multiply_in_tiles(const RowsProduct<BFloat16>& p) {
  const TileRegisters registers;
  const PackedRows x(p);
  for (int64_t output = 0; output < p.num_outputs; output += 2 * kTile) {
    const bool has_second_outputs = output + kTile < p.num_outputs;
    for (int64_t block = 0; block < x.num_blocks(); block += 2) {
      const bool has_second_rows = block + 1 < x.num_blocks();
      if (has_second_outputs && has_second_rows) multiply_tiles<true, true>(p, x, output, block);
      if (has_second_outputs && !has_second_rows) multiply_tiles<true, false>(p, x, output, block);
      if (!has_second_outputs && has_second_rows) multiply_tiles<false, true>(p, x, output, block);
      if (!has_second_outputs && !has_second_rows) multiply_tiles<false, false>(p, x, output, block);
    }
  }
}

}  // namespace plumb::PLUMB_ISA
