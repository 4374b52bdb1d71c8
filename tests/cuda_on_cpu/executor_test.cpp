// The executor finds the faults that it promises to find. Each kernel here has one.
#include "tests/cuda_on_cpu/executor.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "lib/kernels/cuda/launch.cuh"

namespace plumb::cuda {
namespace {

constexpr int kThreads = 64;
enum class Fault { kNone, kNoBarrier, kIndex, kDivergentBarrier, kLeftEarly, kDivergentShuffle, kUnwritten };

/// Reverses the block's threads through shared memory.
__global__ void reverse_kernel(int* out, Fault fault) {
  int* const shared = dynamic_shared<int>();
  const int i = static_cast<int>(threadIdx.x);
  if (fault == Fault::kLeftEarly && i == 5) return;
  if (fault != Fault::kUnwritten || i != 7) shared[fault == Fault::kIndex ? i + 1 : i] = i;
  if (fault == Fault::kDivergentBarrier && i == 9)
    __syncthreads();
  else if (fault == Fault::kDivergentShuffle && i == 9)
    __shfl_xor_sync(0xffffffffu, i, 1);
  else if (fault != Fault::kNoBarrier)
    __syncthreads();
  out[blockIdx.x * kThreads + i] = shared[kThreads - 1 - i];
}

std::vector<int> reversed(Fault fault, uint64_t seed = 0) {
  std::vector<int> out(2 * kThreads);
  cuda_on_cpu::set_schedule(seed);
  launch(reverse_kernel, 2, kThreads, kThreads * sizeof(int), nullptr, out.data(), fault);
  cuda_on_cpu::set_schedule(0);
  return out;
}

std::vector<int> expected() {
  std::vector<int> out(2 * kThreads);
  for (int i = 0; i < 2 * kThreads; ++i) out[i] = kThreads - 1 - i % kThreads;
  return out;
}

TEST(Executor, RunsBlocksInAnyOrderOfThreads) {
  for (const uint64_t seed : {0, 1, 2, 3}) EXPECT_EQ(reversed(Fault::kNone, seed), expected());
}

TEST(Executor, OverwritesSharedMemory) {
  for (const uint64_t seed : {0, 1}) EXPECT_EQ(reversed(Fault::kUnwritten, seed)[kThreads - 8], -1);
}

// Sanitizers report these two themselves, by line.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Executor, ShowsAMissingBarrierOnEverySchedule) {
  const std::vector<int> in_order = reversed(Fault::kNoBarrier);
  EXPECT_NE(in_order, expected());
  for (const uint64_t seed : {1, 2, 3}) {
    EXPECT_NE(reversed(Fault::kNoBarrier, seed), expected());
    EXPECT_NE(reversed(Fault::kNoBarrier, seed), in_order);
  }
}

TEST(ExecutorDeathTest, FindsAWritePastSharedMemory) {
  EXPECT_DEATH(reversed(Fault::kIndex), "a write past the end of 256 bytes of dynamic shared memory");
}
#endif

TEST(ExecutorDeathTest, FindsABarrierThatNotAllReach) {
  EXPECT_DEATH(reversed(Fault::kDivergentBarrier),
               "a barrier in divergent code: block 0, thread 0 waits at .*executor_test");
  EXPECT_DEATH(reversed(Fault::kLeftEarly, 1), "a thread has left before a barrier");
}

TEST(ExecutorDeathTest, FindsAShuffleThatNotAllReach) {
  EXPECT_DEATH(reversed(Fault::kDivergentShuffle), "a shuffle in divergent code: block 0, thread 9 waits at");
}

TEST(ExecutorDeathTest, RefusesPartsOfWarps) {
  EXPECT_DEATH(cuda_on_cpu::run_grid(1, 40, 0, [] {}), "a block of 40 threads is not one of whole warps");
}

}  // namespace
}  // namespace plumb::cuda
