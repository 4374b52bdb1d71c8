// The summation order of gradients, independent of the number of ranks: a binary tree over the micro-batch index, built
// as a binary counter. Leaves are pushed in order; while the two newest subtrees have equal size, they are added. A
// group of leaves that another node has already added up enters as the aligned subtree that it forms.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class Reduction { kCanonical, kFast };

/// Names of --reduction.
template <>
inline constexpr auto kNames<Reduction> = std::to_array<Named<Reduction>>({{"canonical", Reduction::kCanonical},
                                                                           {"fast", Reduction::kFast}});

/// One pushed value: a leaf (size 1) or an aligned subtree, as float32 or as bfloat16. It may be the memory of the
/// level that it becomes.
struct Summand {
  int64_t num_leaves;
  const void* data;
  bool is_bfloat16;
  const uint8_t* has_row = nullptr;  // push_rows(): for each row of the matrix, whether it is not zero; null: all
};

/// The maximal aligned subtrees that cover leaves [begin, end), in order, by their sizes.
std::vector<int64_t> aligned_subtrees(int64_t begin, int64_t end);

/// Sizes of the subtrees that are open after `num_leaves` leaves, oldest first. Fast reduction has at most one.
std::vector<int64_t> open_subtrees(int64_t num_leaves, Reduction reduction);

/// The largest number of subtrees that are open between the accumulation steps of one update; determines the
/// accumulator's memory.
int64_t max_open_subtrees(int64_t leaves_per_accumulation, int64_t accumulation_steps, Reduction reduction);

/// Pushes `summands` of `num_elements` elements each onto the open subtrees in `levels` (level i holds the i-th oldest
/// of open_subtrees(leaves_before)). Afterwards `levels` holds the open subtrees, or, after the last push of an update,
/// their total in level 0.
void push_summands(std::span<float* const> levels, int64_t leaves_before, std::span<const Summand> summands,
                   int64_t num_elements, bool is_last, Reduction reduction);

/// A range of elements of a matrix with rows of `row_elements`; it may extend past the last row.
struct MatrixRange {
  int64_t begin, end;
  int64_t row_elements, num_rows;
};
/// push_summands() of a matrix most of whose rows are zero, such as the gradient of an embedding: with the same bits,
/// but memory is read and written for the other rows only. The data of summands and levels begin at elements.begin.
/// level_has_row: for each level a flag per row of the matrix, kept from push to push; the rows without are undefined
/// until the last push, which fills them with zeros. No summand may hold a negative zero.
void push_rows(std::span<float* const> levels, std::span<std::vector<uint8_t>> level_has_row, int64_t leaves_before,
               std::span<const Summand> summands, const MatrixRange& elements, bool is_last, Reduction reduction);

/// Where a single rank may write its next leaf itself, so that it is not copied.
struct LeafInLevel {
  size_t level;
  bool adds;  // to the newest subtree, a leaf; a gradient that is a single product, rounded once, has the same bits
  /// The value to push in place of the leaf, as if it began where its first leaf does.
  Summand summand(std::span<float* const> levels) const { return {adds ? 2 : 1, levels[level], false}; }
};
/// Null if the leaf must be pushed from other memory. num_levels: those that exist.
std::optional<LeafInLevel> leaf_in_level(int64_t leaves_before, size_t num_levels, bool may_add);

}  // namespace plumb
