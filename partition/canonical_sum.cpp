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
  const float* data;
};

/// push_summands() for one block of elements. Partial sums are in buffers from `scratch_buffer`.
class BlockSum {
 public:
  BlockSum(std::span<float* const> levels, std::span<const int64_t> open, int64_t begin, int64_t n)
      : levels_(levels), begin_(begin), n_(n) {
    for (size_t i = 0; i < open.size(); ++i) stack_[depth_++] = {open[i], levels[i] + begin};
    for (size_t i = 0; i < kNumBuffers; ++i) free_[num_free_++] = scratch_buffer(i);
  }

  void push(const Summand& summand, bool adds_to_newest) {
    Subtree sum = {summand.num_leaves, as_floats(summand)};
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
      if (stack_[i].data != levels_[i] + begin_) std::memcpy(levels_[i] + begin_, stack_[i].data, n_ * sizeof(float));
  }

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
    float* const sum = free_[--num_free_];
    float_kernels().add(before.data, newest.data, sum, n_);
    release(newest.data);
    release(before.data);
    return {before.num_leaves + newest.num_leaves, sum};
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
    BlockSum block(levels, open, begin, std::min(kBlockElements, num_elements - begin));
    for (const Summand& summand : summands) block.push(summand, reduction == Reduction::kFast);
    if (is_last) block.collapse();
    block.store();
  }
}

}  // namespace plumb
