// NCCL between the ranks of a run, one GPU each. The communicator is non-blocking, so that a call that cannot end does
// not hold the host: the host polls, sees errors, and publishes what it waits for, so that the watchdog can end a job
// that hangs. Numbers, agreement and files stay with MPI (communicator.hpp).
// Source: NCCL's user guide, "Fault Tolerance" and "Zero-copy buffers".
#pragma once

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "lib/device/events.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// An operation as errors and the watchdog name it. what: a string literal.
struct WireOperation {
  const char* what;
  int unit = -1;
  int64_t bytes = -1;
};

class NcclCommunicator {
 public:
  /// Collective. Throws AgreedError where NCCL cannot connect the ranks.
  explicit NcclCommunicator(const Communicator& comm);
  /// Collective: except during an exception or after an error, when it aborts.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  ncclComm_t get() const { return nccl_; }
  /// Collective: `issue` calls NCCL for one operation, or one group of operations, on `stream`. Returns when that is
  /// enqueued, which is before it is over. Throws CommError.
  void enqueue(const WireOperation& operation, cudaStream_t stream, const std::function<ncclResult_t()>& issue);
  /// Collective: a call that needs no stream.
  void complete(const WireOperation& operation, const std::function<ncclResult_t()>& issue);
  /// Collective: the host waits until every enqueued operation is over. Throws CommError that names the operation in
  /// which NCCL failed.
  void wait();
  /// Local: ends operations that are under way; nothing can be enqueued afterwards.
  void abort() noexcept;
  bool is_aborted() const { return nccl_ == nullptr; }

 private:
  struct InFlight {
    WireOperation operation;
    Event end;
  };
  void finish_oldest();
  /// True while NCCL works on a call. Throws CommError.
  bool is_in_progress(const WireOperation& operation);
  void check(ncclResult_t result, const WireOperation& operation);
  /// The oldest operation that is not over, or `last` if all are.
  WireOperation oldest_unfinished(const WireOperation& last) const;
  void connect(const Communicator& comm);
  /// False where NCCL does not end in time.
  bool finalize();

  int rank_;
  ncclComm_t nccl_ = nullptr;
  std::deque<InFlight> in_flight_;  // oldest first, since the last wait()
  std::vector<Event> spare_events_;
};

/// Memory at the same offset on all ranks, from and to which NCCL copies directly (a symmetric window).
class NcclMemory {
 public:
  /// Collective. Throws AgreedError where a GPU has no memory left.
  NcclMemory(const Communicator& comm, NcclCommunicator& nccl, int64_t bytes);
  ~NcclMemory();
  NcclMemory(const NcclMemory&) = delete;
  NcclMemory& operator=(const NcclMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_.get()); }

 private:
  struct Free {
    void operator()(void* data) const { ncclMemFree(data); }
  };
  NcclCommunicator& nccl_;
  std::unique_ptr<void, Free> data_;
  ncclWindow_t window_ = nullptr;
};

}  // namespace plumb
