// Sums of gradients in the order of partition/canonical_sum.hpp. The shape of a tree is a template argument, so that
// all its leaves are loaded before the first addition and no array is indexed at run time, which would put it into slow
// local memory.
#include <stdexcept>

#include "lib/kernels/cuda/blocks.cuh"
#include "lib/kernels/cuda/kernels.hpp"

namespace plumb::cuda {

namespace {

__device__ __forceinline__ Pack sum_of(const Pack& a, const Pack& b) {
  return make_pack([&](int k) { return __fadd_rn(a.v[k], b.v[k]); });
}

template <class T>
struct Leaves {
  const T* data[1 << kMaxSubtreeLevel];
};
struct OpenSubtrees {
  int count;
  const float* data[kMaxOpenSubtrees];  // the newest first
};

template <int kLevel, int kFirst, class T>
__device__ __forceinline__ Pack subtree(const Leaves<T>& leaves, int64_t i, int64_t n) {
  if constexpr (kLevel == 0) {
    return load_pack(leaves.data[kFirst], i, n);
  } else {
    const Pack a = subtree<kLevel - 1, kFirst>(leaves, i, n);
    return sum_of(a, subtree<kLevel - 1, kFirst + (1 << (kLevel - 1))>(leaves, i, n));
  }
}

template <int kLevel, class T>
__global__ void __launch_bounds__(kThreads)
    add_subtree_kernel(Leaves<T> leaves, OpenSubtrees open, float* out, int64_t n) {
  const int64_t i = thread_index() * kPack;
  if (i >= n) return;
  Pack sum = subtree<kLevel, 0>(leaves, i, n);
  for (int k = 0; k < open.count; ++k) sum = sum_of(load_pack(open.data[k], i, n), sum);
  store_pack(out, i, n, sum);
}

template <int kLevel, class T>
void launch_level(const SubtreeSum& sum, int64_t n, cudaStream_t stream) {
  Leaves<T> leaves = {};
  for (int k = 0; k < 1 << kLevel; ++k) leaves.data[k] = static_cast<const T*>(sum.leaves[k]);
  OpenSubtrees open = {sum.num_open, {}};
  for (int k = 0; k < sum.num_open; ++k) open.data[k] = sum.open[k];
  launch(add_subtree_kernel<kLevel, T>, blocks_for(num_packs(1, n)), kThreads, 0, stream, leaves, open, sum.out, n);
}

template <class T>
void launch_subtree(const SubtreeSum& sum, int64_t n, cudaStream_t stream) {
  switch (sum.level) {
    case 0:
      return launch_level<0, T>(sum, n, stream);
    case 1:
      return launch_level<1, T>(sum, n, stream);
    case 2:
      return launch_level<2, T>(sum, n, stream);
    case 3:
      return launch_level<3, T>(sum, n, stream);
    default:
      return launch_level<4, T>(sum, n, stream);
  }
}

}  // namespace

void add_subtree(const SubtreeSum& sum, int64_t num_elements, cudaStream_t stream) {
  if (sum.level < 0 || sum.level > kMaxSubtreeLevel || sum.num_open < 0 || sum.num_open > kMaxOpenSubtrees)
    throw std::logic_error("a step of an ordered sum has up to 16 leaves and up to 48 open subtrees");
  if (sum.is_bfloat16) return launch_subtree<BFloat16>(sum, num_elements, stream);
  launch_subtree<float>(sum, num_elements, stream);
}

}  // namespace plumb::cuda
