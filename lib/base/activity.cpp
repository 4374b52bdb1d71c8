#include "lib/base/activity.hpp"

#include <algorithm>
#include <chrono>

namespace plumb {

namespace {

constexpr size_t kMaxThreads = 16;  // that publish at a time; of more, only the count is kept
constexpr size_t kNumRemembered = 16;
constexpr int64_t kWorthRememberingNs = 10'000'000;  // of reads and writes, which are many and mostly short

/// An Operation of which every field may be read while it changes.
struct PublishedOperation {
  std::atomic<const char*> operation = nullptr;
  std::atomic<int64_t> unit = -1, bytes = -1;
  std::atomic<uint64_t> sequence = 0;
  std::atomic<int64_t> since_ns = 0, duration_ns = 0;

  void store(const Operation& value) {
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
  Operation load() const {
    const char* const name = operation.load(std::memory_order_acquire);
    return {name, unit.load(), bytes.load(), sequence.load(), since_ns.load(), duration_ns.load()};
  }
};

struct ThreadSlot {
  std::atomic<bool> is_taken = false;
  PublishedOperation now;
};

std::array<ThreadSlot, kMaxThreads> slots;
std::array<PublishedOperation, kNumRemembered> remembered;
std::atomic<uint64_t> num_remembered = 0;
std::atomic<int64_t> wait_ns = 0;
ProcessProgress own_progress = {};
std::atomic<ProcessProgress*> shared_progress = &own_progress;

/// This thread's slot, given back when the thread ends.
class SlotOfThread {
 public:
  SlotOfThread() {
    for (ThreadSlot& slot : slots)
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
  PublishedOperation* now() const { return slot_ ? &slot_->now : nullptr; }

 private:
  ThreadSlot* slot_ = nullptr;
};

thread_local bool is_thread_unwatched = false;

PublishedOperation* my_operation() {
  thread_local SlotOfThread slot;
  return slot.now();
}

}  // namespace

int64_t steady_now_ns() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

void leave_thread_unwatched() { is_thread_unwatched = true; }

void note_progress() { progress().num_operations.fetch_add(1, std::memory_order_relaxed); }

int64_t collective_wait_ns() { return wait_ns.load(std::memory_order_relaxed); }

WatchedOperation::WatchedOperation(const char* operation, OperationKind kind, int64_t unit, int64_t bytes)
    : kind_(kind) {
  if (is_thread_unwatched) return;
  uint64_t sequence = 0;
  if (kind == OperationKind::kCollective) sequence = progress().num_collectives.fetch_add(1, std::memory_order_relaxed);
  PublishedOperation* const mine = my_operation();
  if (!mine) return;
  outer_ = mine->load();
  mine->store({operation, unit, bytes, sequence, steady_now_ns(), 0});
}

WatchedOperation::~WatchedOperation() {
  if (is_thread_unwatched) return;
  progress().num_operations.fetch_add(1, std::memory_order_relaxed);
  PublishedOperation* const mine = my_operation();
  if (!mine) return;
  Operation ended = mine->load();
  ended.duration_ns = std::max<int64_t>(1, steady_now_ns() - ended.since_ns);
  if (kind_ == OperationKind::kCollective && !outer_.operation)
    wait_ns.fetch_add(ended.duration_ns, std::memory_order_relaxed);
  if (kind_ == OperationKind::kCollective || ended.duration_ns > kWorthRememberingNs)
    remembered[num_remembered.fetch_add(1, std::memory_order_relaxed) % kNumRemembered].store(ended);
  mine->store(outer_);
}

std::vector<Operation> operations_under_way() {
  std::vector<Operation> all;
  for (const ThreadSlot& slot : slots) {
    const Operation operation = slot.now.load();
    if (operation.operation) all.push_back(operation);
  }
  return all;
}

std::vector<Operation> last_operations() {
  std::vector<Operation> all;
  const uint64_t end = num_remembered.load();
  for (uint64_t i = end - std::min<uint64_t>(end, kNumRemembered); i < end; ++i) {
    const Operation operation = remembered[i % kNumRemembered].load();
    if (operation.operation) all.push_back(operation);
  }
  return all;
}

void set_progress(ProcessProgress* progress) {
  ProcessProgress* const target = progress ? progress : &own_progress;
  ProcessProgress* const before = shared_progress.load();
  target->num_collectives.store(before->num_collectives.load());
  target->num_operations.store(before->num_operations.load());
  shared_progress.store(target);
}

ProcessProgress& progress() { return *shared_progress.load(std::memory_order_relaxed); }

}  // namespace plumb
