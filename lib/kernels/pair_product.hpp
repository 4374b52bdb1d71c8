// The blocks of a product of bfloat16 factors (product_kernels.hpp): both are packed as the instructions read them, b
// as pairs of rows side by side. Included by the files of the instructions, which give the product of packed tiles:
//     struct Tile { static constexpr int64_t kRows; static void multiply(const TileProduct&); }
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <memory>
#include <new>

#include "lib/kernels/lane_math.hpp"
#include "lib/kernels/product_kernels.hpp"

namespace plumb::PLUMB_ISA {

namespace {

constexpr int64_t kPanelColumns = 2 * kLanes;  // of packed b
constexpr int64_t kDepthStep = 2 * kLanes;     // packed factors are padded with zeros to a multiple of it
// Blocks for an L2 cache of 1 MB or more: 320 KB of b, and rows of a and sums beside it.
constexpr int64_t kMostDepth = 512, kMostColumns = 320, kMostRows = 480, kMostElementsOfA = 1 << 18;

/// sums [kRows, kPanelColumns] = a b, or += if it continues.
struct TileProduct {
  const BFloat16* a;  // rows of depth_steps * kDepthStep elements
  int64_t a_row_stride;
  const BFloat16* b;  // [pairs of rows][kPanelColumns][2]
  int64_t depth_steps;
  int64_t rows, columns;  // that count
  float* sums;
  bool continues;
};

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline BFloat16 element(const BFloat16* x, int64_t row, int64_t row_stride, int64_t column, int64_t column_stride) {
  return x[row * row_stride + column * column_stride];
}

using Elements = uint16_t __attribute__((vector_size(64)));
using Quads = uint64_t __attribute__((vector_size(64)));

/// The first `count` of 32 elements, then zeros.
inline Elements load_elements(const BFloat16* x, int64_t count = 2 * kLanes) {
  const auto some = static_cast<__mmask32>((uint64_t{1} << std::clamp<int64_t>(count, 0, 2 * kLanes)) - 1);
  return (Elements)_mm512_maskz_loadu_epi16(some, x);
}

/// Two rows of 32 elements as 32 pairs; moved, never computed with.
inline void interleave(Elements first, Elements second, Floats& low, Floats& high) {
  const auto ordered = [](Elements row) {  // so that each 128 bits hold elements of both halves
    const auto x = std::bit_cast<Quads>(row);
    return std::bit_cast<Elements>(__builtin_shufflevector(x, x, 0, 4, 1, 5, 2, 6, 3, 7));
  };
  const Elements x = ordered(first), y = ordered(second);
  low = std::bit_cast<Floats>(__builtin_shufflevector(x, y, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43,
                                                      16, 48, 17, 49, 18, 50, 19, 51, 24, 56, 25, 57, 26, 58, 27, 59));
  high = std::bit_cast<Floats>(__builtin_shufflevector(x, y, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47,
                                                       20, 52, 21, 53, 22, 54, 23, 55, 28, 60, 29, 61, 30, 62, 31, 63));
}

/// One panel of b: up to 32 columns of `depth` rows, the rest zeros.
inline void pack_panel(const BFloat16* b, int64_t row_stride, int64_t column_stride, int64_t depth, int64_t columns,
                       BFloat16* out) {
  const int64_t padded_depth = round_up(depth, kDepthStep);
  if (column_stride == 1) {
    for (int64_t k = 0; k < padded_depth; k += 2) {
      Floats low, high;
      const auto row = [&](int64_t i) {
        return load_elements(b + std::min(i, depth) * row_stride, i < depth ? columns : 0);
      };
      interleave(row(k), row(k + 1), low, high);
      std::memcpy(out + k * kPanelColumns, &low, sizeof low);
      std::memcpy(out + k * kPanelColumns + kPanelColumns, &high, sizeof high);
    }
    return;
  }
  if (row_stride == 1) {
    for (int64_t k = 0; k < padded_depth; k += kDepthStep)
      for (int64_t half = 0; half < 2; ++half) {
        Floats pairs[kLanes];  // moved, never computed with
        for (int64_t j = 0; j < kLanes; ++j) {
          const int64_t column = half * kLanes + j;
          const BFloat16* const elements = b + column * column_stride + k;
          pairs[j] = std::bit_cast<Floats>(load_elements(elements, column < columns ? depth - k : 0));
          __builtin_prefetch(elements + kPanelColumns * column_stride);  // of the next panel
        }
        transpose(pairs);
        for (int64_t i = 0; i < kLanes; ++i)
          std::memcpy(out + (k + 2 * i) * kPanelColumns + half * kPanelColumns, &pairs[i], sizeof pairs[i]);
      }
    return;
  }
  for (int64_t k = 0; k < padded_depth; ++k)
    for (int64_t j = 0; j < kPanelColumns; ++j)
      out[k / 2 * 2 * kPanelColumns + 2 * j + k % 2] =
          k < depth && j < columns ? element(b, k, row_stride, j, column_stride) : BFloat16{0};
}

/// 32 rows of a whose columns are contiguous, 32 elements of each.
inline void pack_transposed(const BFloat16* a, int64_t column_stride, BFloat16* out, int64_t out_stride) {
  Floats low[kLanes], high[kLanes];  // moved, never computed with
  for (int64_t pair = 0; pair < kLanes; ++pair)
    interleave(load_elements(a + 2 * pair * column_stride), load_elements(a + (2 * pair + 1) * column_stride),
               low[pair], high[pair]);
  transpose(low);
  for (int64_t i = 0; i < kLanes; ++i) std::memcpy(out + i * out_stride, &low[i], sizeof low[i]);
  transpose(high);
  for (int64_t i = 0; i < kLanes; ++i) std::memcpy(out + (kLanes + i) * out_stride, &high[i], sizeof high[i]);
}

/// Rows of a beside each other, with zeros up to `padded_rows` and to a multiple of kDepthStep.
inline void pack_rows(const BFloat16* a, int64_t row_stride, int64_t column_stride, int64_t rows, int64_t depth,
                      int64_t padded_rows, BFloat16* out, int64_t out_stride) {
  const int64_t padded_depth = round_up(depth, kDepthStep);
  const bool is_transposed = row_stride == 1 && column_stride != 1;
  const int64_t whole_rows = is_transposed ? rows / kDepthStep * kDepthStep : 0;
  for (int64_t k = 0; is_transposed && k < padded_depth; k += kDepthStep)
    for (int64_t i = 0; i < whole_rows; i += kDepthStep) {  // along the contiguous columns
      if (k + kDepthStep <= depth) {
        pack_transposed(a + i + k * column_stride, column_stride, out + i * out_stride + k, out_stride);
        continue;
      }
      for (int64_t row = i; row < i + kDepthStep; ++row)
        for (int64_t rest = k; rest < padded_depth; ++rest)
          out[row * out_stride + rest] = rest < depth ? element(a, row, row_stride, rest, column_stride) : BFloat16{0};
    }
  for (int64_t i = whole_rows; i < padded_rows; ++i) {
    BFloat16* const row = out + i * out_stride;
    const int64_t count = i < rows ? depth : 0;
    if (column_stride == 1) {
      std::copy_n(a + (i < rows ? i : 0) * row_stride, count, row);
    } else {
      for (int64_t k = 0; k < count; ++k) row[k] = element(a, i, row_stride, k, column_stride);
    }
    std::fill(row + count, row + padded_depth, BFloat16{0});
  }
}

inline void put_row(const float* sums, float scale, bool adds, int64_t columns, float* c) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    const auto some = static_cast<__mmask16>((uint32_t{1} << std::min(columns - j, kLanes)) - 1);
    __m512 x = _mm512_load_ps(sums + j) * scale;
    if (adds) x += _mm512_maskz_loadu_ps(some, c + j);
    _mm512_mask_storeu_ps(c + j, some, x);
  }
}
inline void put_row(const float* sums, float scale, bool adds, int64_t columns, BFloat16* c) {
  const auto some = static_cast<__mmask32>((uint64_t{1} << columns) - 1);
  Floats low = load(sums) * scale, high = load(sums + kLanes) * scale;
  if (adds) {
    alignas(64) BFloat16 before[kPanelColumns];
    _mm512_store_si512(before, _mm512_maskz_loadu_epi16(some, c));
    low += load(before);
    high += load(before + kLanes);
  }
  _mm512_mask_storeu_epi16(c, some, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}

/// A buffer aligned to cache lines.
template <class T>
auto allocate(int64_t num_elements) {
  constexpr std::align_val_t kCacheLine{64};
  const auto release = [](T* p) { ::operator delete(p, kCacheLine); };
  return std::unique_ptr<T, decltype(release)>(
      static_cast<T*>(::operator new(static_cast<size_t>(num_elements) * sizeof(T), kCacheLine)));
}

template <class Tile, class Out>
class BlockedProduct {
 public:
  explicit BlockedProduct(const PairProduct<Out>& p)
      : p_(p),
        is_deep_(p.depth > kMostDepth),
        depth_(std::clamp<int64_t>(round_up(p.depth, kDepthStep), kDepthStep, kMostDepth)),
        rows_(std::min(is_deep_ ? kMostRows : kMostElementsOfA / depth_ / kPairPartRows * kPairPartRows,
                       round_up(p.num_rows, Tile::kRows))),
        columns_(
            round_up((p.num_columns - 1) / ((p.num_columns + kMostColumns - 1) / kMostColumns) + 1, kPanelColumns)),
        reads_a_in_place_(p.a_column_stride == 1 && p.depth % kDepthStep == 0 && p.num_rows % Tile::kRows == 0 &&
                          p.a_row_stride <= kMostStride && p.a_row_stride % kPage != 0),
        packed_a_(allocate<BFloat16>(reads_a_in_place_ ? 0 : rows_ * (depth_ + kDepthStep))),
        packed_b_(allocate<BFloat16>(depth_ * columns_)),
        sums_(allocate<float>(is_deep_ ? rows_ * columns_ : Tile::kRows * kPanelColumns)) {}

  void compute() {
    for (int64_t row = 0; row < p_.num_rows; row += rows_)
      for (int64_t column = 0; column < p_.num_columns; column += columns_)
        for (int64_t k = 0; k == 0 || k < p_.depth; k += kMostDepth) multiply_block(row, column, k);
  }

 private:
  // Rows of a that are a multiple of a page apart compete for the same lines of the L1 cache; those far apart need a
  // page table entry each.
  static constexpr int64_t kPage = 4096 / sizeof(BFloat16), kMostStride = 2 * kPage;

  void multiply_block(int64_t row, int64_t column, int64_t k) {
    const int64_t rows = std::min(rows_, p_.num_rows - row), columns = std::min(columns_, p_.num_columns - column);
    const int64_t depth = std::min(kMostDepth, p_.depth - k);
    const bool is_last = k + kMostDepth >= p_.depth;
    const BFloat16* a = p_.a + row * p_.a_row_stride + k * p_.a_column_stride;
    int64_t a_row_stride = p_.a_row_stride;
    if (!reads_a_in_place_) {
      a_row_stride = depth_ + kDepthStep;
      if (is_deep_ || column == 0)
        pack_rows(a, p_.a_row_stride, p_.a_column_stride, rows, depth, round_up(rows, Tile::kRows), packed_a_.get(),
                  a_row_stride);
      a = packed_a_.get();
    }
    const int64_t padded_depth = round_up(depth, kDepthStep);
    for (int64_t j = 0; j < columns; j += kPanelColumns)
      pack_panel(p_.b + k * p_.b_row_stride + (column + j) * p_.b_column_stride, p_.b_row_stride, p_.b_column_stride,
                 depth, std::min(kPanelColumns, columns - j), packed_b_.get() + j * padded_depth);
    float* sums = sums_.get();
    for (int64_t i = 0; i < rows; i += Tile::kRows) {
      const int64_t tile_rows = std::min(Tile::kRows, rows - i);
      for (int64_t j = 0; j < columns; j += kPanelColumns) {
        const int64_t panel_columns = std::min(kPanelColumns, columns - j);
        Out* const c = p_.c + (row + i) * p_.c_row_stride + column + j;
        for (int64_t r = 0; is_last && r < tile_rows; ++r)
          for (int64_t line = 0; line < panel_columns; line += 64 / sizeof(Out))
            __builtin_prefetch(c + r * p_.c_row_stride + line, 1);
        Tile::multiply({a + i * a_row_stride, a_row_stride, packed_b_.get() + j * padded_depth,
                        padded_depth / kDepthStep, tile_rows, panel_columns, sums, k > 0});
        for (int64_t r = 0; is_last && r < tile_rows; ++r)
          put_row(sums + r * kPanelColumns, p_.scale, p_.adds, panel_columns, c + r * p_.c_row_stride);
        if (is_deep_) sums += Tile::kRows * kPanelColumns;
      }
    }
  }

  const PairProduct<Out>& p_;
  bool is_deep_;
  int64_t depth_, rows_, columns_;  // of a block
  bool reads_a_in_place_;
  decltype(allocate<BFloat16>(0)) packed_a_, packed_b_;
  decltype(allocate<float>(0)) sums_;  // of a tile; of a block, tile after tile, if it is continued
};

template <class Tile, class Out>
void multiply_blocks(const PairProduct<Out>& p) {
  if (p.num_rows > 0 && p.num_columns > 0) BlockedProduct<Tile, Out>(p).compute();
}

}  // namespace

}  // namespace plumb::PLUMB_ISA
