// The steps of push_summands() (canonical_sum.hpp) for devices, which add whole subtrees at once: pure arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "partition/canonical_sum.hpp"

namespace plumb {

/// Leaves [first_leaf, first_leaf + num_leaves) are added as a balanced tree; the result, to the sums in levels
/// `open`, one after the other; and that is written to level `out`.
struct SubtreeStep {
  int64_t first_leaf;  // of those that are pushed
  int64_t num_leaves;  // a power of two
  std::vector<int> open;
  int out;
  bool operator==(const SubtreeStep&) const = default;
};

/// The steps that push `num_leaves` leaves, at most max_leaves (a power of two) in one. Level i holds the i-th oldest
/// of open_subtrees(leaves_before), and after the last push level 0 the total. In between there may be more levels open
/// than before or after.
std::vector<SubtreeStep> subtree_steps(int64_t leaves_before, int64_t num_leaves, bool is_last, Reduction reduction,
                                       int64_t max_leaves);

/// The number of levels that the steps of one update use.
int num_step_levels(int64_t leaves_per_accumulation, int64_t accumulation_steps, Reduction reduction,
                    int64_t max_leaves);

}  // namespace plumb
