#include "lib/base/activity.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "lib/base/fault.hpp"
#include "lib/base/process_state.hpp"

namespace plumb {

namespace {

constexpr int64_t kWorthRememberingNs = 10'000'000;  // of reads and writes, which are many and mostly short

/// This thread's slot, given back when the thread ends.
class SlotOfThread {
 public:
  SlotOfThread() {
    for (ThreadSlot& slot : process_state().threads)
      if (!slot.is_taken.exchange(true)) {
        slot_ = &slot;
        return;
      }
  }
  ~SlotOfThread() {
    if (slot_) slot_->is_taken.store(false);
  }
  SlotOfThread(const SlotOfThread&) = delete;
  SlotOfThread& operator=(const SlotOfThread&) = delete;
  ThreadSlot* get() const { return slot_; }

 private:
  ThreadSlot* slot_ = nullptr;
};

thread_local bool is_thread_unwatched = false;

/// nullptr where more threads publish than there are slots.
ThreadSlot* my_slot() {
  thread_local SlotOfThread slot;
  return slot.get();
}

}  // namespace

void leave_thread_unwatched() { is_thread_unwatched = true; }

void note_progress() { progress().num_operations.fetch_add(1, std::memory_order_relaxed); }

int64_t collective_wait_ns() { return process_state().collective_wait_ns.load(std::memory_order_relaxed); }

WatchedOperation::WatchedOperation(const char* operation, OperationKind kind, int64_t unit, int64_t bytes)
    : kind_(kind) {
  if (is_thread_unwatched) return;
  uint64_t sequence = 0;
  if (kind == OperationKind::kCollective) sequence = progress().num_collectives.fetch_add(1, std::memory_order_relaxed);
  ThreadSlot* const mine = my_slot();
  if (!mine) return;
  outer_ = mine->now.load();
  mine->now.store({operation, unit, bytes, sequence, steady_now_ns(), 0});
}

WatchedOperation::~WatchedOperation() {
  if (is_thread_unwatched) return;
  progress().num_operations.fetch_add(1, std::memory_order_relaxed);
  ThreadSlot* const mine = my_slot();
  if (!mine) return;
  ProcessState& state = process_state();
  Operation ended = mine->now.load();
  ended.duration_ns = std::max<int64_t>(1, steady_now_ns() - ended.since_ns);
  if (kind_ == OperationKind::kCollective && !outer_.operation)
    state.collective_wait_ns.fetch_add(ended.duration_ns, std::memory_order_relaxed);
  if (kind_ == OperationKind::kCollective || ended.duration_ns > kWorthRememberingNs)
    state.last_operations[state.num_remembered.fetch_add(1, std::memory_order_relaxed) % ProcessState::kNumRemembered]
        .store(ended);
  mine->now.store(outer_);
}

Phase::Phase(const char* name, int64_t step) : step_(step) {
  fault_point(name, step);
  const ThreadSlot* const mine = my_slot();
  if (!mine) return;
  outer_name_ = mine->phase.load();
  outer_step_ = mine->step.load();
  publish(name, step);
}

Phase::~Phase() { publish(outer_name_, outer_step_); }

void Phase::next(const char* name) {
  fault_point(name, step_);
  publish(name, step_);
}

void Phase::publish(const char* name, int64_t step) {
  ThreadSlot* const mine = my_slot();
  if (!mine) return;
  mine->step.store(step, std::memory_order_relaxed);
  mine->phase.store(name, std::memory_order_release);
}

std::string describe_phases() {
  std::string text;
  for (const ThreadSlot& slot : process_state().threads)
    if (const char* const phase = slot.phase.load(std::memory_order_acquire))
      text += fmt::format("{}{} of step {}", text.empty() ? "" : ", ", phase, slot.step.load());
  return text;
}

std::vector<Operation> operations_under_way() {
  std::vector<Operation> all;
  for (const ThreadSlot& slot : process_state().threads) {
    const Operation operation = slot.now.load();
    if (operation.operation) all.push_back(operation);
  }
  return all;
}

std::vector<Operation> last_operations() {
  std::vector<Operation> all;
  const ProcessState& state = process_state();
  constexpr uint64_t kNum = ProcessState::kNumRemembered;
  const uint64_t end = state.num_remembered.load();
  for (uint64_t i = end - std::min(end, kNum); i < end; ++i) {
    const Operation operation = state.last_operations[i % kNum].load();
    if (operation.operation) all.push_back(operation);
  }
  return all;
}

void set_progress(ProcessProgress* progress) {
  ProcessState& state = process_state();
  ProcessProgress* const target = progress ? progress : &state.own_progress;
  const ProcessProgress* const before = state.progress.load();
  target->num_collectives.store(before->num_collectives.load());
  target->num_operations.store(before->num_operations.load());
  state.progress.store(target);
}

ProcessProgress& progress() { return *process_state().progress.load(std::memory_order_relaxed); }

}  // namespace plumb
