// Compiled without ThreadSanitizer, which would report the switches themselves; PLUMB_WITH_TSAN: the program has it.
#include "tests/cuda_on_cpu/fiber.hpp"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef PLUMB_WITH_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace cuda_on_cpu {

namespace {
constexpr size_t kStackBytes = 128 << 10;
#ifdef PLUMB_WITH_TSAN
constexpr unsigned kWithoutOrder = 1;  // __tsan_switch_to_fiber_no_sync
#endif
}  // namespace

#ifdef PLUMB_WITH_TSAN
void release(void* token) { __tsan_release(token); }
void acquire(void* token) { __tsan_acquire(token); }
#else
void release(void*) {}
void acquire(void*) {}
#endif

Fiber::Fiber(void (*entry)()) : stack_(std::make_unique_for_overwrite<std::byte[]>(kStackBytes)) {
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, entry, 0);
#ifdef PLUMB_WITH_TSAN
  thread_ = __tsan_create_fiber(0);
#endif
}

void Fiber::resume() {
#ifdef __SANITIZE_ADDRESS__
  void* own_fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&own_fake_stack, stack_.get(), kStackBytes);
#endif
#ifdef PLUMB_WITH_TSAN
  caller_thread_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, kWithoutOrder);
#endif
  swapcontext(&caller_, &context_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(own_fake_stack, nullptr, nullptr);
#endif
}

void Fiber::begin() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &caller_stack_, &caller_stack_bytes_);
#endif
}

void Fiber::pause() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&fake_stack_, caller_stack_, caller_stack_bytes_);
#endif
#ifdef PLUMB_WITH_TSAN
  __tsan_switch_to_fiber(caller_thread_, kWithoutOrder);
#endif
  swapcontext(&context_, &caller_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_stack_, &caller_stack_bytes_);
#endif
}

}  // namespace cuda_on_cpu
