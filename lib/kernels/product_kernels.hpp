// Matrix products of bfloat16 factors with sums in float32, by the extensions of x86-64-v4 that multiply pairs of
// elements: AMX and AVX512-BF16. Both factors may be transposed, and the result may be float32, so that the three
// products of a linear layer (x W^T, dy W, dy^T x) need no conversions and no passes over their operands in between.
// The bits of an element depend on its row of a, its column of b and the depth only, so a product computed in parts has
// those of the whole. Source: Intel's Architecture Instruction Set Extensions Reference, chapter 3 (TDPBF16PS); the
// blocks are those of Goto and van de Geijn (multiply_isa.cpp).
#pragma once

#include <cstdint>
#include <vector>

#include "lib/kernels/kernels.hpp"

namespace plumb {

/// c [num_rows, num_columns] = scale * a [num_rows, depth] b [depth, num_columns], or += if `adds`, rounded once.
/// Strides are in elements. Rows of c must be contiguous; for speed, rows or columns of a and of b should be.
template <class Out>
struct PairProduct {
  const BFloat16* a;
  int64_t a_row_stride, a_column_stride;
  const BFloat16* b;
  int64_t b_row_stride, b_column_stride;
  Out* c;
  int64_t c_row_stride;
  int64_t num_rows, num_columns, depth;
  float scale;
  bool adds;
};

/// Split a product's rows and columns at multiples of these, so that no tile is partly empty.
inline constexpr int64_t kPairPartRows = 96, kPairPartColumns = 32;

struct PairKernels {
  // Run on one thread.
  void (*multiply)(const PairProduct<BFloat16>& product);
  void (*multiply_to_float)(const PairProduct<float>& product);
  const char* instructions;  // "AMX" or "AVX512-BF16"
};

/// The kernels for this processor; null if it has none of these instructions.
const PairKernels* pair_kernels();

/// All that this processor can execute, the fastest last, for tests.
const std::vector<PairKernels>& all_pair_kernels();

}  // namespace plumb
