#include "io/dataset/packing.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// Longest first; of equally long ones the lower number first.
std::vector<int64_t> order_by_length(std::span<const int64_t> example_tokens) {
  std::vector<int64_t> order(example_tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const int64_t a_tokens = example_tokens[a], b_tokens = example_tokens[b];
    return a_tokens != b_tokens ? a_tokens > b_tokens : a < b;
  });
  return order;
}

/// The row of each example, rows numbered as they were opened.
std::vector<int64_t> assign_rows(std::span<const int64_t> example_tokens, int64_t capacity_tokens) {
  const std::vector<int64_t> order = order_by_length(example_tokens);
  const int64_t shortest = example_tokens.empty() ? 0 : example_tokens[order.back()];
  check(example_tokens.empty() || shortest > 0, "an example has tokens");
  std::vector<int64_t> row_of(example_tokens.size());
  std::map<int64_t, std::vector<int64_t>> rows_by_space;  // rows that may take another example, by their free tokens
  int64_t num_rows = 0;
  for (const int64_t example : order) {
    const int64_t tokens = example_tokens[example];
    int64_t row = num_rows, space = capacity_tokens;
    if (const auto best = rows_by_space.lower_bound(tokens); best != rows_by_space.end()) {
      space = best->first;
      row = best->second.back();
      best->second.pop_back();
      if (best->second.empty()) rows_by_space.erase(best);
    } else {
      ++num_rows;
    }
    row_of[example] = row;
    if (space - tokens >= shortest) rows_by_space[space - tokens].push_back(row);
  }
  return row_of;
}

}  // namespace

std::span<const int64_t> PackingPlan::row(int64_t row) const {
  check(row >= 0 && row < num_rows(), "a row lies within its plan");
  const int64_t begin = offsets[row], end = offsets[row + 1];
  return std::span(examples).subspan(begin, end - begin);
}

PackingPlan pack_best_fit(std::span<const int64_t> example_tokens, int64_t capacity_tokens) {
  check(capacity_tokens > 0, "a row has room for a token");
  std::vector<int64_t> row_of = assign_rows(example_tokens, capacity_tokens);

  // rows renumbered in the order of their first examples, and counted
  constexpr int64_t kUnnamed = -1;
  std::vector<int64_t> names(row_of.size(), kUnnamed);
  PackingPlan plan;
  for (int64_t& row : row_of) {
    int64_t& name = names[row];
    if (name == kUnnamed) {
      name = plan.num_rows();
      plan.offsets.push_back(0);
    }
    row = name;
    ++plan.offsets[row + 1];
  }
  std::partial_sum(plan.offsets.begin(), plan.offsets.end(), plan.offsets.begin());

  plan.examples.resize(row_of.size());
  std::vector<int64_t> next = plan.offsets;
  for (size_t example = 0; example < row_of.size(); ++example) {
    const int64_t place = next[row_of[example]]++;
    plan.examples[place] = static_cast<int64_t>(example);
  }
  return plan;
}

PackingPlan pack_parts(std::span<const int64_t> example_tokens, int64_t capacity_tokens,
                       std::span<const int64_t> part_sizes) {
  if (part_sizes.empty()) return pack_best_fit(example_tokens, capacity_tokens);
  PackingPlan all;
  for (const int64_t size : part_sizes) {
    const int64_t first = std::ssize(all.examples);
    check(size <= std::ssize(example_tokens) - first, "parts lie within the examples");
    const PackingPlan part = pack_best_fit(example_tokens.subspan(first, size), capacity_tokens);
    for (const int64_t example : part.examples) all.examples.push_back(first + example);
    for (int64_t row = 1; row <= part.num_rows(); ++row) all.offsets.push_back(first + part.offsets[row]);
  }
  check(std::ssize(all.examples) == std::ssize(example_tokens), "parts make up the examples");
  return all;
}

}  // namespace plumb
