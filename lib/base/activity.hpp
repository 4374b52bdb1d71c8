// The work of the threads of this process, for the watchdog (partition/watchdog.hpp): the operation that each waits
// for, the phase of the step that each is in, and the last operations. Publishing costs two reads of a clock and a few
// plain stores; no thread ever waits for a reader.
// Source: the flight recorders of NCCL's and Gloo's process groups record the same facts.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/base/clock.hpp"

namespace plumb {

/// How far a process is, in memory that others may share. All processes of a run begin the same collectives in the same
/// order, so the one that has begun the fewest is the one that the others wait for.
struct alignas(64) ProcessProgress {
  std::atomic<uint64_t> num_collectives;  // begun
  std::atomic<uint64_t> num_operations;   // ended: collectives, reads and writes of any thread
  std::atomic<int64_t> alive_ns;          // when the watchdog's thread last ran
  std::atomic<int64_t> pid;
};

/// An operation as it is published. `operation` is a string literal; unit and bytes are -1 where there are none.
struct Operation {
  const char* operation = nullptr;
  int64_t unit = -1;
  int64_t bytes = -1;
  uint64_t sequence = 0;  // of collectives: how many have begun before
  int64_t since_ns = 0;
  int64_t duration_ns = 0;  // 0: not over
};

enum class OperationKind { kCollective, kFile };

/// Publishes an operation from construction to destruction. Of nested operations readers see the innermost. Only the
/// main thread has collectives.
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

/// A named part of the work on a step, from construction to destruction: the watchdog's report names it, and it is the
/// fault point of this name (lib/base/fault.hpp). Unlike an operation it may take any time.
class Phase {
 public:
  /// `name`: a string literal. Throws what an injected fault asks for.
  Phase(const char* name, int64_t step);
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

  /// This phase ends and the next one of the same step begins. Throws as the constructor.
  void next(const char* name);

 private:
  static void publish(const char* name, int64_t step);

  int64_t step_;
  const char* outer_name_ = nullptr;
  int64_t outer_step_ = 0;
};

/// From here on nothing that this thread does is published or counts as progress: such a thread keeps working while
/// the run hangs.
void leave_thread_unwatched();

/// Counts as progress of this process, for work that neither waits nor reads nor writes for a long time.
void note_progress();

/// Time that this process's main thread has spent in collectives.
int64_t collective_wait_ns();

/// The current operation of each thread that has one.
std::vector<Operation> operations_under_way();
/// "backward of step 12, checkpoint-written of step 10", of all threads; empty where none has a phase.
std::string describe_phases();
/// The last collectives, and reads and writes that took long, oldest first.
std::vector<Operation> last_operations();

/// Main thread only: where this process's progress is counted from now on; nullptr: in memory of its own.
void set_progress(ProcessProgress* progress);
ProcessProgress& progress();

}  // namespace plumb
