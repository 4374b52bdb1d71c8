// A function that runs on a stack of its own, a part at a time. The sanitizers are told of every switch.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <memory>

namespace cuda_on_cpu {

/// Which memory ThreadSanitizer takes to be ordered: what came before release(token) in one fiber, for another fiber
/// after acquire(token). Other switches order nothing.
void release(void* token);
void acquire(void* token);

class Fiber {
 public:
  /// entry() runs at the first resume() and never returns.
  explicit Fiber(void (*entry)());
  Fiber(const Fiber&) = delete;

  /// Runs the fiber until it pauses. Called outside of fibers.
  void resume();
  /// Returns to the caller of resume(). Called by the fiber itself.
  void pause();
  /// entry() calls this first.
  void begin();

 private:
  ucontext_t context_ = {}, caller_ = {};
  std::unique_ptr<std::byte[]> stack_;
  const void* caller_stack_ = nullptr;  // for AddressSanitizer
  size_t caller_stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
  void *thread_ = nullptr, *caller_thread_ = nullptr;  // for ThreadSanitizer
};

}  // namespace cuda_on_cpu
