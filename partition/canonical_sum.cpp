#include "partition/canonical_sum.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "lib/base/check.hpp"
#include "lib/kernels/kernels.hpp"

namespace plumb {

namespace {

constexpr int64_t kBlockElements = 2048;  // small enough that the open subtrees of one block stay in the L1 cache
constexpr size_t kMaxDepth = 48, kNumBuffers = kMaxDepth + 2;  // beside the open subtrees a summand and a sum

struct Subtree {
  int64_t num_leaves;
  const float* data;  // null: zeros
};

/// push_summands() for one block of elements. Partial sums are in buffers from `scratch_buffer`.
class BlockSum {
 public:
  /// is_zero(level): the block of that level counts as zeros.
  template <class IsZero>
  BlockSum(std::span<float* const> levels, std::span<const int64_t> open, int64_t begin, int64_t n, IsZero is_zero)
      : levels_(levels), begin_(begin), n_(n) {
    for (size_t i = 0; i < open.size(); ++i) stack_[depth_++] = {open[i], is_zero(i) ? nullptr : levels[i] + begin};
    for (size_t i = 0; i < kNumBuffers; ++i) free_[num_free_++] = scratch_buffer(i);
  }

  void push(const Summand& summand, bool adds_to_newest, bool is_zero = false) {
    Subtree sum = {summand.num_leaves, is_zero ? nullptr : as_floats(summand)};
    while (depth_ > 0 && (adds_to_newest || stack_[depth_ - 1].num_leaves == sum.num_leaves))
      sum = add(stack_[--depth_], sum);
    check(depth_ < kMaxDepth, "fewer open subtrees than 48");
    stack_[depth_++] = sum;
  }

  void collapse() {
    while (depth_ > 1) {
      const Subtree newest = stack_[--depth_], before = stack_[--depth_];
      stack_[depth_++] = add(before, newest);
    }
  }

  void store() {
    for (size_t i = 0; i < depth_; ++i)
      if (!is_zero(i) && stack_[i].data != levels_[i] + begin_)
        std::memcpy(levels_[i] + begin_, stack_[i].data, n_ * sizeof(float));
  }
  bool is_zero(size_t level) const { return stack_[level].data == nullptr; }

 private:
  static float* scratch_buffer(size_t i) {
    alignas(64) thread_local std::array<float, kBlockElements * kNumBuffers> memory;
    return memory.data() + i * kBlockElements;
  }
  /// The block's elements, in place if they are floats.
  const float* as_floats(const Summand& summand) {
    if (!summand.is_bfloat16) return static_cast<const float*>(summand.data) + begin_;
    float* const floats = free_[--num_free_];
    activation_kernels<BFloat16>().to_float(static_cast<const BFloat16*>(summand.data) + begin_, floats, n_);
    return floats;
  }
  Subtree add(const Subtree& before, const Subtree& newest) {
    const int64_t num_leaves = before.num_leaves + newest.num_leaves;
    if (before.data == nullptr || newest.data == nullptr) return {num_leaves, before.data ? before.data : newest.data};
    float* const sum = free_[--num_free_];
    float_kernels().add(before.data, newest.data, sum, n_);
    release(newest.data);
    release(before.data);
    return {num_leaves, sum};
  }
  void release(const float* data) {
    const float* first = scratch_buffer(0);
    if (data >= first && data < first + kBlockElements * kNumBuffers) free_[num_free_++] = const_cast<float*>(data);
  }

  std::span<float* const> levels_;
  int64_t begin_, n_;
  std::array<Subtree, kMaxDepth> stack_;
  size_t depth_ = 0;
  std::array<float*, kNumBuffers> free_;
  size_t num_free_ = 0;
};

}  // namespace

std::vector<int64_t> aligned_subtrees(int64_t begin, int64_t end) {
  std::vector<int64_t> sizes;
  while (begin < end) {
    int64_t size = begin == 0 ? int64_t{1} << 62 : begin & -begin;
    while (begin + size > end || size > end) size /= 2;
    sizes.push_back(size);
    begin += size;
  }
  return sizes;
}

std::vector<int64_t> open_subtrees(int64_t num_leaves, Reduction reduction) {
  if (reduction == Reduction::kFast) return num_leaves > 0 ? std::vector<int64_t>{num_leaves} : std::vector<int64_t>{};
  return aligned_subtrees(0, num_leaves);
}

int64_t max_open_subtrees(int64_t leaves_per_accumulation, int64_t accumulation_steps, Reduction reduction) {
  int64_t most = 1;
  for (int64_t a = 1; a < accumulation_steps; ++a)
    most = std::max<int64_t>(most, std::ssize(open_subtrees(a * leaves_per_accumulation, reduction)));
  return most;
}

void push_summands(std::span<float* const> levels, int64_t leaves_before, std::span<const Summand> summands,
                   int64_t num_elements, bool is_last, Reduction reduction) {
  const std::vector<int64_t> open = open_subtrees(leaves_before, reduction);
  for (int64_t begin = 0; begin < num_elements; begin += kBlockElements) {
    BlockSum block(levels, open, begin, std::min(kBlockElements, num_elements - begin), [](size_t) { return false; });
    for (const Summand& summand : summands) block.push(summand, reduction == Reduction::kFast);
    if (is_last) block.collapse();
    block.store();
  }
}

void push_rows(std::span<float* const> levels, std::span<std::vector<uint8_t>> level_has_row, int64_t leaves_before,
               std::span<const Summand> summands, const MatrixRange& elements, bool is_last, Reduction reduction) {
  int64_t leaves_after = leaves_before;
  for (const Summand& summand : summands) leaves_after += summand.num_leaves;
  const std::vector<int64_t> open = open_subtrees(leaves_before, reduction);
  const size_t num_open_after = is_last ? 1 : open_subtrees(leaves_after, reduction).size();
  const int64_t width = elements.row_elements, rows_end = std::min(elements.num_rows * width, elements.end);
  std::array<uint8_t, kMaxDepth> has_row_after;
  for (int64_t row = elements.begin / width; row * width < rows_end; ++row) {
    const int64_t begin = std::max(row * width, elements.begin), end = std::min((row + 1) * width, rows_end);
    const auto is_zero = [&](const Summand& summand) { return summand.has_row && !summand.has_row[row]; };
    const auto is_zero_level = [&](size_t level) { return !level_has_row[level][row]; };
    has_row_after.fill(0);
    bool is_needed = !std::all_of(summands.begin(), summands.end(), is_zero);
    for (size_t level = 0; level < open.size(); ++level) is_needed |= !is_zero_level(level);
    for (int64_t i = begin; is_needed && i < end; i += kBlockElements) {
      BlockSum block(levels, open, i - elements.begin, std::min(kBlockElements, end - i), is_zero_level);
      for (const Summand& summand : summands) block.push(summand, reduction == Reduction::kFast, is_zero(summand));
      if (is_last) block.collapse();
      block.store();
      for (size_t level = 0; level < num_open_after; ++level) has_row_after[level] = !block.is_zero(level);
    }
    for (size_t level = 0; level < num_open_after; ++level) level_has_row[level][row] = has_row_after[level];
    if (is_last && !has_row_after[0])
      std::fill(levels[0] + begin - elements.begin, levels[0] + end - elements.begin, 0.0f);
  }
  if (is_last && elements.end > rows_end)  // padding
    std::fill(levels[0] + std::max(rows_end - elements.begin, int64_t{0}), levels[0] + elements.end - elements.begin,
              0.0f);
}

std::optional<LeafInLevel> leaf_in_level(int64_t leaves_before, size_t num_levels, bool may_add) {
  const size_t num_open = open_subtrees(leaves_before, Reduction::kCanonical).size();
  const bool completes_pair = leaves_before % 2 == 1;
  if (completes_pair) return may_add ? std::optional(LeafInLevel{num_open - 1, true}) : std::nullopt;
  return num_open < num_levels ? std::optional(LeafInLevel{num_open, false}) : std::nullopt;
}

}  // namespace plumb
