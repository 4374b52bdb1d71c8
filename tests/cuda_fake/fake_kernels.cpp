// The kernels that exchanges launch, as plain loops on the streams of the fake.
#include "lib/kernels/cuda/kernels.hpp"

#include "tests/cuda_fake/bfloat16.hpp"
#include "tests/cuda_fake/fake.hpp"

namespace plumb::cuda {

namespace {

float leaf(const SubtreeSum& sum, int64_t index, int64_t i) {
  const void* const data = sum.leaves[index];
  return sum.is_bfloat16 ? fake::to_float(static_cast<const uint16_t*>(data)[i]) : static_cast<const float*>(data)[i];
}

float subtree(const SubtreeSum& sum, int64_t first, int64_t num_leaves, int64_t i) {
  if (num_leaves == 1) return leaf(sum, first, i);
  return subtree(sum, first, num_leaves / 2, i) + subtree(sum, first + num_leaves / 2, num_leaves / 2, i);
}

}  // namespace

template <>
void from_float(const float* x, BFloat16* y, int64_t n, cudaStream_t stream) {
  const auto bytes = static_cast<size_t>(n);
  fake::enqueue(stream, "conversion to bfloat16", {fake::reads(x, bytes * 4), fake::writes(y, bytes * 2)}, [=] {
    for (int64_t i = 0; i < n; ++i) y[i].bits = fake::to_bfloat16(x[i]);
    return true;
  });
}

void add_subtree(const SubtreeSum& sum, int64_t num_elements, cudaStream_t stream) {
  const int64_t num_leaves = int64_t{1} << sum.level;
  const auto bytes = static_cast<size_t>(num_elements) * 4;
  std::vector<fake::Access> accesses = {fake::writes(sum.out, bytes)};
  for (int64_t index = 0; index < num_leaves; ++index)
    accesses.push_back(fake::reads(sum.leaves[index], sum.is_bfloat16 ? bytes / 2 : bytes));
  for (int open = 0; open < sum.num_open; ++open) accesses.push_back(fake::reads(sum.open[open], bytes));
  fake::enqueue(stream, "ordered sum", accesses, [=] {
    for (int64_t i = 0; i < num_elements; ++i) {
      float total = subtree(sum, 0, num_leaves, i);
      for (int open = 0; open < sum.num_open; ++open) total = sum.open[open][i] + total;
      sum.out[i] = total;
    }
    return true;
  });
}

}  // namespace plumb::cuda
