// Which examples share a row: best-fit-decreasing over the whole corpus, so that rows are nearly full and no example is
// cut. Source: Ding et al. 2024, arXiv:2404.10830.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace plumb {

/// Rows of examples, by number; rows ordered by their first example, examples ascending within a row.
struct PackingPlan {
  std::vector<int64_t> examples;    // row after row
  std::vector<int64_t> offsets{0};  // where each row begins in `examples`, then their number

  int64_t num_rows() const { return static_cast<int64_t>(offsets.size()) - 1; }
  std::span<const int64_t> row(int64_t row) const;
  bool operator==(const PackingPlan&) const = default;
};

/// Every example once, in rows of at most `capacity_tokens`; an example longer than that has a row of its own. Depends
/// on nothing but its arguments. O(n log n).
PackingPlan pack_best_fit(std::span<const int64_t> example_tokens, int64_t capacity_tokens);

/// As pack_best_fit(), but consecutive parts of the examples, of these sizes, share no row; the rows of a part follow
/// those of the part before it. No parts: all examples are one.
PackingPlan pack_parts(std::span<const int64_t> example_tokens, int64_t capacity_tokens,
                       std::span<const int64_t> part_sizes);

}  // namespace plumb
