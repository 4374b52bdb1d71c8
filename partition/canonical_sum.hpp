// The order of a gradient's sums, the same for every number of ranks: a binary tree over the index of the micro-batch,
// built as a binary counter. Leaves are pushed in order; while the two newest subtrees have equal size, they are added.
// A group of leaves that another node added up enters as the aligned subtree that it is.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class Reduction { kCanonical, kFast };

/// The names of --reduction.
template <>
inline constexpr auto kNames<Reduction> = std::to_array<Named<Reduction>>({{"canonical", Reduction::kCanonical},
                                                                           {"fast", Reduction::kFast}});

/// One pushed value: a leaf (size 1) or an aligned subtree, as float32 or as bfloat16.
struct Summand {
  int64_t num_leaves;
  const void* data;
  bool is_bfloat16;
};

/// The maximal aligned subtrees that cover leaves [begin, end), in order, by their sizes.
std::vector<int64_t> aligned_subtrees(int64_t begin, int64_t end);

/// Subtrees that are open after `num_leaves` leaves, oldest first; in fast reduction there is one.
std::vector<int64_t> open_subtrees(int64_t num_leaves, Reduction reduction);

/// The most subtrees that wait at once between the accumulation steps of one update: the memory of an accumulator.
int64_t max_open_subtrees(int64_t leaves_per_accumulation, int64_t accumulation_steps, Reduction reduction);

/// Pushes `summands` of `num_elements` elements each onto the subtrees kept in `levels` (level i holds the i-th oldest,
/// of open_subtrees(leaves_before)). Afterwards `levels` holds the open subtrees, or, if this is the last push of an
/// update, their total in level 0.
void push_summands(std::span<float* const> levels, int64_t leaves_before, std::span<const Summand> summands,
                   int64_t num_elements, bool is_last, Reduction reduction);

}  // namespace plumb
