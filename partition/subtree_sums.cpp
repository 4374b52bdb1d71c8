#include "partition/subtree_sums.hpp"

#include <algorithm>

namespace plumb {

std::vector<SubtreeStep> subtree_steps(int64_t leaves_before, int64_t num_leaves, bool is_last, Reduction reduction,
                                       int64_t max_leaves) {
  std::vector<int64_t> open = open_subtrees(leaves_before, reduction);  // sizes, oldest first
  std::vector<SubtreeStep> steps;
  int64_t first = 0;
  for (const int64_t subtree : aligned_subtrees(leaves_before, leaves_before + num_leaves))
    for (int64_t rest = subtree; rest > 0; rest -= std::min(subtree, max_leaves)) {
      SubtreeStep& step = steps.emplace_back(SubtreeStep{first, std::min(subtree, max_leaves), {}, 0});
      first += step.num_leaves;
      int64_t size = step.num_leaves;
      const bool adds_all = reduction == Reduction::kFast || (is_last && first == num_leaves);
      while (!open.empty() && (adds_all || open.back() == size)) {
        size += open.back();
        open.pop_back();
        step.open.push_back(static_cast<int>(open.size()));
      }
      step.out = static_cast<int>(open.size());
      open.push_back(size);
    }
  return steps;
}

int num_step_levels(int64_t leaves_per_accumulation, int64_t accumulation_steps, Reduction reduction,
                    int64_t max_leaves) {
  int most = 1;
  for (int64_t a = 0; a < accumulation_steps; ++a)
    for (const SubtreeStep& step : subtree_steps(a * leaves_per_accumulation, leaves_per_accumulation,
                                                 a + 1 == accumulation_steps, reduction, max_leaves))
      most = std::max(most, step.out + 1);
  return most;
}

}  // namespace plumb
