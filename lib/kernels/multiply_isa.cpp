// FloatKernels::multiply, blocked as in Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (ACM
// TOMS 34, 2008) and BLIS: a tile of c stays in registers, a packed block of b in the L2 cache. Compiled once per
// instruction set, like kernels_isa.cpp.
#include <algorithm>
#include <memory>
#include <new>
#include <utility>

#include "lib/kernels/kernels.hpp"
#include "lib/kernels/lane_math.hpp"

namespace plumb::PLUMB_ISA {

namespace {

// The tile size leaves registers for a row of b and an element of a: there are 32 of 16 floats (AVX-512), 16 of 8
// (AVX2), or 16 of 4.
#if defined(__AVX512F__)
constexpr int kTileRows = 12, kTileVectors = 2;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 1;
#else
constexpr int kTileRows = 3, kTileVectors = 1;
#endif
constexpr int64_t kTileColumns = kTileVectors * kLanes;
static_assert(kProductPartRows % kTileRows == 0 && kProductPartColumns % kTileColumns == 0);
// Blocks for the L2 cache: 512 KB of b, and 288 KB of rows of a.
constexpr int64_t kBlockDepth = 512, kBlockColumns = 256, kBlockRows = 144;

/// c = scale * sum over `depth` of a's column times b's row, by consecutive fused multiply-adds; added to c if `adds`.
template <int kRows>
void multiply_tile(int64_t depth, const float* a, int64_t a_row_stride, const float* packed_b, float* c,
                   int64_t c_row_stride, float scale, bool adds) {
  for (int i = 0; i < kRows; ++i)
    for (int v = 0; v < kTileVectors; ++v) __builtin_prefetch(c + i * c_row_stride + v * kLanes, 1);
  Floats sum[kRows][kTileVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Floats b[kTileVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) b[v] = load(packed_b + k * kTileColumns + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Floats element = broadcast(a[i * a_row_stride + k]);
#pragma GCC unroll 2
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] += element * b[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kTileVectors; ++v) {
      float* out = c + i * c_row_stride + v * kLanes;
      const Floats scaled = sum[i][v] * scale;
      store(out, adds ? load(out) + scaled : scaled);
    }
  }
}

using MultiplyTile = void (*)(int64_t, const float*, int64_t, const float*, float*, int64_t, float, bool);

template <int... kRowsLessOne>
MultiplyTile tile_of(int64_t num_rows, std::integer_sequence<int, kRowsLessOne...>) {
  static constexpr MultiplyTile kTiles[] = {multiply_tile<kRowsLessOne + 1>...};
  return kTiles[num_rows - 1];
}

/// Packs the columns of b into panels of kTileColumns, each with its `depth` rows in order; the last panel is padded
/// with zeros.
void pack(const float* b, int64_t row_stride, int64_t column_stride, int64_t depth, int64_t num_columns, float* out) {
  for (int64_t first = 0; first < num_columns; first += kTileColumns, out += kTileColumns * depth) {
    for (int64_t lane = 0; lane < kTileColumns; lane += kLanes) {
      const int64_t columns = std::clamp<int64_t>(num_columns - first - lane, 0, kLanes);
      const float* in = b + (columns > 0 ? first + lane : 0) * column_stride;
      int64_t k = 0;
      if (columns == kLanes && column_stride == 1) {
        for (; k < depth; ++k) store(out + k * kTileColumns + lane, load(in + k * row_stride));
      } else if (columns == kLanes && row_stride == 1) {
        for (; k + kLanes <= depth; k += kLanes) {
          Floats block[kLanes];
          for (int64_t j = 0; j < kLanes; ++j) {
            block[j] = load(in + j * column_stride + k);
            __builtin_prefetch(in + (j + kLanes) * column_stride + k);  // of the next sixteen columns
          }
          transpose(block);
          for (int64_t i = 0; i < kLanes; ++i) store(out + (k + i) * kTileColumns + lane, block[i]);
        }
      }
      for (; k < depth; ++k)
        for (int64_t j = 0; j < kLanes; ++j)
          out[k * kTileColumns + lane + j] = j < columns ? in[k * row_stride + j * column_stride] : 0.0f;
    }
  }
}

/// Multiplies one block with packed b.
void multiply_block(int64_t num_rows, int64_t num_columns, int64_t depth, const float* a, int64_t a_row_stride,
                    const float* packed_b, float* c, int64_t c_row_stride, float scale, bool adds) {
  float edge[kTileRows * kTileColumns];
  for (int64_t i = 0; i < num_rows; i += kTileRows) {
    const int64_t rows = std::min<int64_t>(kTileRows, num_rows - i);
    const MultiplyTile multiply_rows = tile_of(rows, std::make_integer_sequence<int, kTileRows>());
    for (int64_t j = 0; j < num_columns; j += kTileColumns) {
      const int64_t columns = std::min(kTileColumns, num_columns - j);
      const float *tile_a = a + i * a_row_stride, *tile_b = packed_b + j * depth;
      float* tile_c = c + i * c_row_stride + j;
      if (columns == kTileColumns) {
        multiply_rows(depth, tile_a, a_row_stride, tile_b, tile_c, c_row_stride, scale, adds);
        continue;
      }
      multiply_rows(depth, tile_a, a_row_stride, tile_b, edge, kTileColumns, scale, false);
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) {
          float& out = tile_c[row * c_row_stride + column];
          out = (adds ? out : 0.0f) + edge[row * kTileColumns + column];
        }
    }
  }
}

/// A buffer aligned to cache lines.
auto allocate(int64_t num_elements) {
  constexpr std::align_val_t kCacheLine{64};
  const auto release = [](float* p) { ::operator delete(p, kCacheLine); };
  const size_t num_bytes = num_elements * sizeof(float);
  return std::unique_ptr<float, decltype(release)>(static_cast<float*>(::operator new(num_bytes, kCacheLine)));
}

}  // namespace

void multiply(const FloatProduct& p) {
  // Rows of a that are a multiple of a page apart compete for the same lines of the L1 cache, so they are copied next
  // to each other.
  constexpr int64_t kPage = 4096 / sizeof(float), kCopyStride = kBlockDepth + kLanes;
  const bool copies_a = p.a_row_stride % kPage == 0;
  const auto packed_b = allocate(kBlockDepth * kBlockColumns);
  const auto copied_a = allocate(copies_a ? kBlockRows * kCopyStride : 0);
  for (int64_t column = 0; column < p.num_columns; column += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, p.num_columns - column);
    for (int64_t k = 0; k < p.depth; k += kBlockDepth) {
      const int64_t depth = std::min(kBlockDepth, p.depth - k);
      pack(p.b + k * p.b_row_stride + column * p.b_column_stride, p.b_row_stride, p.b_column_stride, depth, columns,
           packed_b.get());
      for (int64_t row = 0; row < p.num_rows; row += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, p.num_rows - row);
        const float* a = p.a + row * p.a_row_stride + k;
        for (int64_t i = 0; copies_a && i < rows; ++i)
          std::copy_n(a + i * p.a_row_stride, depth, copied_a.get() + i * kCopyStride);
        multiply_block(rows, columns, depth, copies_a ? copied_a.get() : a, copies_a ? kCopyStride : p.a_row_stride,
                       packed_b.get(), p.c + row * p.c_row_stride + column, p.c_row_stride, p.scale, p.adds || k > 0);
      }
    }
  }
}

}  // namespace plumb::PLUMB_ISA
