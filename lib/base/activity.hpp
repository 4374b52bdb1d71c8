// What every thread of this process waits for at the moment, and what its main thread has done last, told to whoever
// watches: the watchdog of partition/watchdog.hpp. To publish costs two looks at a clock and a few plain stores; nobody
// ever waits for a reader.
// Source: the flight recorders of NCCL's and Gloo's process groups keep the same facts.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace plumb {

/// How far a process is, in memory that others may share. All processes of a run begin the same collectives in the same
/// order, so that the one that has begun the fewest is behind.
struct alignas(64) ProcessProgress {
  std::atomic<uint64_t> num_collectives;  // begun
  std::atomic<uint64_t> num_operations;   // ended: collectives, reads and writes of any thread
  std::atomic<int64_t> alive_ns;          // when the watchdog's thread last ran
  std::atomic<int64_t> pid;
};

/// An operation as it is published. `operation` is a literal; unit and bytes are -1 where there is none.
struct Operation {
  const char* operation = nullptr;
  int64_t unit = -1;
  int64_t bytes = -1;
  uint64_t sequence = 0;  // of collectives: how many have begun before
  int64_t since_ns = 0;
  int64_t duration_ns = 0;  // 0: not over
};

enum class OperationKind { kCollective, kFile };

/// Publishes an operation from construction to destruction. Of others within it the innermost is what is seen.
/// Collectives are those of the main thread.
class WatchedOperation {
 public:
  explicit WatchedOperation(const char* operation, OperationKind kind = OperationKind::kCollective, int64_t unit = -1,
                            int64_t bytes = -1);
  ~WatchedOperation();
  WatchedOperation(const WatchedOperation&) = delete;
  WatchedOperation& operator=(const WatchedOperation&) = delete;

 private:
  OperationKind kind_;
  Operation outer_;
};

/// Nothing that this thread does from here on is published or counts: it goes on while a run hangs, and is not the run.
void leave_thread_unwatched();

/// Says that this process gets on, in work that neither waits nor reads nor writes for long.
void note_progress();

/// Nanoseconds of a clock that no one sets and that all processes of a node share.
int64_t steady_now_ns();

/// Time that this process's main thread has spent in collectives.
int64_t collective_wait_ns();

/// What the threads of this process are in now.
std::vector<Operation> operations_under_way();
/// The last collectives, and reads and writes that took long, oldest first.
std::vector<Operation> last_operations();

/// Where this process's progress is counted from now on; nullptr: in memory of its own. Called by the main thread.
void set_progress(ProcessProgress* progress);
ProcessProgress& progress();

}  // namespace plumb
