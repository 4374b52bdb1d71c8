// Products of few rows by sums of vectors: a tile of rows and outputs stays in registers while x and W pass. Included
// by the files that are compiled once per instruction set, like lanes.hpp. A term gives the sum of products of one
// vector of x and one of W.
#pragma once

#include <algorithm>

#include "lib/kernels/decode_kernels.hpp"
#include "lib/kernels/lane_math.hpp"

namespace plumb::PLUMB_ISA {

namespace {

/// Terms of T as it is, sixteen elements each.
template <class T>
struct PlainTerms {
  using Vector = Floats;
  static constexpr int64_t kElements = kLanes;
  static Vector get(const T* p) { return load(p); }
  static Vector get_some(const T* p, int64_t n) { return load_some(p, n); }
  static Floats add(Floats sum, Vector x, Vector w) { return sum + x * w; }
};

#if defined(__AVX512F__)
constexpr int kTileRows = 4, kTileOutputs = 4, kOutputsOfFewRows = 8;
#else
constexpr int kTileRows = 2, kTileOutputs = 2, kOutputsOfFewRows = 4;
#endif
constexpr int64_t kFewRows = kTileRows / 2;

/// Adds the upper half of the lanes to the lower, four times; always the same tree.
inline float fold(Floats x) {
  x += __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  x += __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  x += __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return x[0] + x[1];
}

/// fold() of sixteen vectors at once.
inline Floats fold_each(const Floats (&x)[kLanes]) {
  Floats a[8], b[4], c[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    a[i] =
        __builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        __builtin_shufflevector(x[2 * i], x[2 * i + 1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    b[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           __builtin_shufflevector(a[2 * i], a[2 * i + 1], 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    c[i] = __builtin_shufflevector(b[2 * i], b[2 * i + 1], 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
           __builtin_shufflevector(b[2 * i], b[2 * i + 1], 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
  return __builtin_shufflevector(c[0], c[1], 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
         __builtin_shufflevector(c[0], c[1], 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/// sums[row][output], rows and outputs being a tile.
template <class Terms, int kRows, int kOutputs, class T>
inline void sum_tile(const T* x, int64_t x_row_stride, const T* weight, int64_t weight_row_stride, int64_t depth,
                     float (&sums)[kRows][kOutputs]) {
  constexpr int kSums = kRows * kOutputs;
  Floats sum[kSums <= 4 ? kSums : kLanes] = {};
  const auto add = [&](auto get, int64_t k) {
    typename Terms::Vector w[kOutputs];
#pragma GCC unroll 8
    for (int o = 0; o < kOutputs; ++o) {
      w[o] = get(weight + o * weight_row_stride + k);
      __builtin_prefetch(weight + (o + kOutputs) * weight_row_stride + k);  // of the next tile
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto element = get(x + r * x_row_stride + k);
#pragma GCC unroll 8
      for (int o = 0; o < kOutputs; ++o) sum[r * kOutputs + o] = Terms::add(sum[r * kOutputs + o], element, w[o]);
    }
  };
  int64_t k = 0;
  for (; k + Terms::kElements <= depth; k += Terms::kElements) add([](const T* p) { return Terms::get(p); }, k);
  if (k < depth) add([rest = depth - k](const T* p) { return Terms::get_some(p, rest); }, k);
  if constexpr (kSums <= 4) {
    for (int i = 0; i < kSums; ++i) sums[i / kOutputs][i % kOutputs] = fold(sum[i]);
  } else {
    const Floats each = fold_each(sum);
    std::memcpy(sums, &each, sizeof sums);
  }
}

/// Calls put(row, output, sum) for each element of x W^T.
template <class Terms, int kOutputs, class T, class Put>
inline void sum_rows(const T* x, int64_t x_row_stride, int64_t num_rows, const T* weight, int64_t weight_row_stride,
                     int64_t first_output, int64_t depth, Put put) {
  const auto tile = [&]<int kRows>(int64_t row) {
    float sums[kRows][kOutputs];
    sum_tile<Terms, kRows, kOutputs>(x + row * x_row_stride, x_row_stride, weight + first_output * weight_row_stride,
                                     weight_row_stride, depth, sums);
    for (int r = 0; r < kRows; ++r)
      for (int o = 0; o < kOutputs; ++o) put(row + r, first_output + o, sums[r][o]);
  };
  int64_t row = 0;
  if constexpr (kOutputs <= kTileOutputs)
    for (; row + kTileRows <= num_rows; row += kTileRows) tile.template operator()<kTileRows>(row);
  if constexpr (kTileRows > 2)
    for (; row + 2 <= num_rows; row += 2) tile.template operator()<2>(row);
  for (; row < num_rows; ++row) tile.template operator()<1>(row);
}

/// The same for all outputs.
template <class Terms, class T, class Put>
inline void sum_products(const T* x, int64_t x_row_stride, int64_t num_rows, const T* weight, int64_t weight_row_stride,
                         int64_t num_outputs, int64_t depth, Put put) {
  int64_t output = 0;
  const auto outputs = [&]<int kOutputs>() {
    for (; output + kOutputs <= num_outputs; output += kOutputs)
      sum_rows<Terms, kOutputs>(x, x_row_stride, num_rows, weight, weight_row_stride, output, depth, put);
  };
  if (num_rows <= kFewRows) outputs.template operator()<kOutputsOfFewRows>();
  outputs.template operator()<kTileOutputs>();
  outputs.template operator()<1>();
}

inline float element_at(const float* p) { return *p; }
inline float element_at(const BFloat16* p) { return std::bit_cast<float>(uint32_t{p->bits} << 16); }
inline void put_element(float* p, float x) { *p = x; }
inline void put_element(BFloat16* p, float x) {  // as store()
  const auto bits = std::bit_cast<uint32_t>(x);
  p->bits = static_cast<uint16_t>(x != x ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <class Terms, class T>
void multiply_rows(const RowsProduct<T>& p) {
  sum_products<Terms>(p.x, p.x_row_stride, p.num_rows, p.weight, p.depth, p.num_outputs, p.depth,
                      [&](int64_t row, int64_t output, float sum) {
                        if (p.bias != nullptr) sum += element_at(p.bias + output);
                        put_element(p.y + row * p.y_row_stride + output, sum);
                      });
}

}  // namespace

}  // namespace plumb::PLUMB_ISA
