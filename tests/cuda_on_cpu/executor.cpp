// Compiled without ThreadSanitizer, as fiber.cpp.
#include "tests/cuda_on_cpu/executor.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "tests/cuda_on_cpu/fiber.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

// The linker's names for the section of __shared__ variables; absent in a program without one.
extern "C" {
extern std::byte __start_cuda_shared[] __attribute__((weak));
extern std::byte __stop_cuda_shared[] __attribute__((weak));
}

namespace cuda_on_cpu {

namespace {

constexpr unsigned kLanes = 32;
constexpr std::byte kPoison{0xff};  // a NaN as float or double, and far out of range as an index
constexpr size_t kGuardBytes = 64;  // after dynamic shared memory

enum class State { kReady, kAtBarrier, kAtWarp, kDone };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  State state;
  Site site;                       // where it waits
  std::array<uint64_t, 2> passed;  // to exchange(), in turn: a lane may be one call ahead of another
  unsigned num_exchanges;
};

std::vector<Thread> threads;
unsigned current, num_threads_of_block;
const std::function<void()>* body_of_grid;
uint64_t seed_of_schedule;
std::unique_ptr<std::byte[]> shared_memory;
size_t shared_memory_bytes;
char start_token, block_token, end_token;  // for ThreadSanitizer
std::array<char, 32> warp_tokens;

[[noreturn]] void fail(const char* fault, unsigned thread, const Thread& waiting) {
  std::fprintf(stderr, "cuda_on_cpu: %s: block %u, thread %u waits at %s:%u\n", fault, blockIdx.x, thread,
               waiting.site.file_name(), static_cast<unsigned>(waiting.site.line()));
  std::abort();
}

bool is_same(const Site& a, const Site& b) {
  return a.line() == b.line() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

void run_thread() {
  threads[current].fiber->begin();
  for (;;) {
    acquire(&start_token);
    acquire(&end_token);  // blocks use the same shared memory, so one comes after the other
    (*body_of_grid)();
    release(&end_token);
    threads[current].state = State::kDone;
    threads[current].fiber->pause();
  }
}

void wait(State state, Site site) {
  Thread& self = threads[current];
  self.state = state;
  self.site = site;
  self.fiber->pause();
}

/// Lets warps whose lanes all wait for each other continue. Returns whether there was one.
bool release_warps() {
  bool has_released = false;
  for (unsigned begin = 0; begin < num_threads_of_block; begin += kLanes) {
    const auto first = threads.begin() + begin, last = first + kLanes;
    const auto waiting = std::find_if(first, last, [](const Thread& t) { return t.state == State::kAtWarp; });
    if (waiting == last) continue;
    const auto index = static_cast<unsigned>(waiting - threads.begin());
    for (auto lane = first; lane != last; ++lane) {
      if (lane->state == State::kDone) fail("a lane has left before a shuffle", index, *waiting);
      if (lane->state != State::kAtWarp || !is_same(lane->site, waiting->site))
        fail("a shuffle in divergent code", index, *waiting);
    }
    for (auto lane = first; lane != last; ++lane) lane->state = State::kReady;
    has_released = true;
  }
  return has_released;
}

/// All threads wait for the block or have ended. Returns whether the block continues.
bool release_block() {
  const auto last = threads.begin() + num_threads_of_block;
  const auto waiting =
      std::find_if(threads.begin(), last, [](const Thread& t) { return t.state == State::kAtBarrier; });
  if (waiting == last) return false;
  const auto index = static_cast<unsigned>(waiting - threads.begin());
  for (auto thread = threads.begin(); thread != last; ++thread) {
    if (thread->state == State::kDone) fail("a thread has left before a barrier", index, *waiting);
    if (!is_same(thread->site, waiting->site)) fail("a barrier in divergent code", index, *waiting);
    thread->state = State::kReady;
  }
  return true;
}

uint64_t next_random(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

void shuffle_order(std::vector<unsigned>& order, uint64_t& state) {
  if (seed_of_schedule == 0) return;
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next_random(state) % i]);
}

void run_block(std::vector<unsigned>& order, uint64_t& state) {
  std::fill(shared_memory.get(), shared_memory.get() + shared_memory_bytes, kPoison);
  if (__start_cuda_shared) std::fill(__start_cuda_shared, __stop_cuda_shared, kPoison);
  for (unsigned i = 0; i < num_threads_of_block; ++i) {
    threads[i].state = State::kReady;
    threads[i].num_exchanges = 0;
  }
  do {
    do {
      shuffle_order(order, state);
      for (const unsigned i : order) {
        if (threads[i].state != State::kReady) continue;
        current = i;
        threadIdx = {i, 0, 0};
        threads[i].fiber->resume();
      }
    } while (release_warps());
  } while (release_block());
}

}  // namespace

std::function<void(cudaStream_t, std::function<void()>)> enqueue = [](cudaStream_t, const std::function<void()>& run) {
  run();
};

void set_schedule(uint64_t seed) { seed_of_schedule = seed; }

void* dynamic_shared() { return shared_memory.get(); }

void sync_block(Site site) {
  release(&block_token);
  wait(State::kAtBarrier, site);
  acquire(&block_token);
}

void sync_warp(Site site) {
  char* const token = &warp_tokens[current / kLanes];
  release(token);
  wait(State::kAtWarp, site);
  acquire(token);
}

uint64_t exchange(uint64_t value, unsigned source, Site site) {
  Thread& self = threads[current];
  const unsigned turn = self.num_exchanges++ % 2;
  self.passed[turn] = value;
  wait(State::kAtWarp, site);
  return threads[current / kLanes * kLanes + source % kLanes].passed[turn];
}

void run_grid(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const std::function<void()>& body) {
  if (num_threads % kLanes != 0 || num_threads == 0 || num_threads > 1024) {
    std::fprintf(stderr, "cuda_on_cpu: a block of %u threads is not one of whole warps\n", num_threads);
    std::abort();
  }
  while (threads.size() < num_threads) threads.push_back({std::make_unique<Fiber>(run_thread), {}, {}, {}, 0});
  num_threads_of_block = num_threads;
  body_of_grid = &body;
  gridDim = {num_blocks, 1, 1};
  blockDim = {num_threads, 1, 1};
  // AddressSanitizer finds an access past the end by itself, if nothing follows there
#ifdef __SANITIZE_ADDRESS__
  const size_t guard_bytes = 0;
#else
  const size_t guard_bytes = kGuardBytes;
#endif
  shared_memory = std::make_unique_for_overwrite<std::byte[]>(shared_bytes + guard_bytes);
  shared_memory_bytes = shared_bytes;
  std::fill_n(shared_memory.get() + shared_bytes, guard_bytes, kPoison);
  std::vector<unsigned> blocks(num_blocks), order(num_threads);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::iota(order.begin(), order.end(), 0);
  uint64_t state = seed_of_schedule;
  shuffle_order(blocks, state);
  release(&start_token);
  for (const unsigned block : blocks) {
    blockIdx = {block, 0, 0};
    run_block(order, state);
  }
  acquire(&end_token);
  const std::byte* const guard = shared_memory.get() + shared_bytes;
  if (std::any_of(guard, guard + guard_bytes, [](std::byte b) { return b != kPoison; })) {
    std::fprintf(stderr, "cuda_on_cpu: a write past the end of %zu bytes of dynamic shared memory\n", shared_bytes);
    std::abort();
  }
}

}  // namespace cuda_on_cpu
