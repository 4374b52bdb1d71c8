// Runs a kernel in several orders of its threads, and holds its error to that of the CPU kernel.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "lib/kernels/cuda/kernels.hpp"
#include "lib/kernels/reference.hpp"
#include "tests/cuda_on_cpu/executor.hpp"
#include "tests/lib/kernels/kernel_copies.hpp"

namespace plumb {

inline constexpr cudaStream_t kStream = nullptr;

/// Like x; the kernel must write every element.
inline at::Tensor unwritten(const at::Tensor& x) { return at::full_like(x, std::numeric_limits<double>::quiet_NaN()); }

/// x, but not at a multiple of 16 bytes.
inline at::Tensor misaligned(const at::Tensor& x) {
  const at::Tensor moved = at::empty({x.numel() + 1}, x.options()).narrow(0, 1, x.numel()).view(x.sizes());
  return moved.copy_(x);
}

/// Calls run() on copies of `tensors`, in order and in three random orders of blocks and threads, whose results must
/// have the same bits. Returns the results.
template <class Run>
std::vector<at::Tensor> on_all_schedules(const std::vector<at::Tensor>& tensors, Run run) {
  std::vector<at::Tensor> expected;
  for (const uint64_t seed : {0, 1, 2, 3}) {
    std::vector<at::Tensor> results;
    for (const at::Tensor& tensor : tensors) results.push_back(tensor.clone());
    cuda_on_cpu::set_schedule(seed);
    run(results);
    cuda_on_cpu::set_schedule(0);
    if (seed == 0) expected = results;
    for (size_t i = 0; i < results.size(); ++i)
      EXPECT_TRUE(same_bits(results[i], expected[i]))
          << "result " << i << " depends on the order of threads, seed " << seed;
  }
  return expected;
}

/// The kernel is at most twice as far from the exact result as the CPU's; the last unit of a float is allowed in any
/// case, because the CPU may be exact by chance.
inline void expect_as_good(const at::Tensor& got, const at::Tensor& of_cpu, const at::Tensor& exact) {
  EXPECT_LE(reference::relative_distance(got, exact),
            2 * reference::relative_distance(of_cpu, exact) + 2 * kFloatRoundoff);
}

}  // namespace plumb
