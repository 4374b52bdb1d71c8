#include "lib/base/process_state.hpp"

namespace plumb {

static constinit ProcessState state;

static_assert(decltype(state.stop_signal)::is_always_lock_free, "a signal handler sets it");

ProcessState& process_state() { return state; }

void PublishedOperation::store(const Operation& value) {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  // the rest stays: a reader between the two would see the operation that ends, under way since time 0
  if (!value.operation) return operation.store(nullptr, std::memory_order_release);
  unit.store(value.unit, kRelaxed);
  bytes.store(value.bytes, kRelaxed);
  sequence.store(value.sequence, kRelaxed);
  since_ns.store(value.since_ns, kRelaxed);
  duration_ns.store(value.duration_ns, kRelaxed);
  operation.store(value.operation, std::memory_order_release);
}

Operation PublishedOperation::load() const {
  const char* const name = operation.load(std::memory_order_acquire);
  return {name, unit.load(), bytes.load(), sequence.load(), since_ns.load(), duration_ns.load()};
}

}  // namespace plumb
