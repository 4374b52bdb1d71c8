// The summation order of gradients, independent of the number of ranks: a binary tree over the micro-batch index, built
// as a binary counter. Leaves are pushed in order; while the two newest subtrees have equal size, they are added. A
// group of leaves that another node has already added up enters as the aligned subtree that it forms.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class Reduction { kCanonical, kFast };

/// Names of --reduction.
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

}  // namespace plumb
