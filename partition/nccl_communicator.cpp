#include "partition/nccl_communicator.hpp"

#include <chrono>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "lib/base/activity.hpp"
#include "lib/base/log.hpp"
#include "lib/device/memory.hpp"
#include "partition/deadline.hpp"

namespace plumb {

namespace {

constexpr std::chrono::microseconds kPollInterval{20};
constexpr std::chrono::seconds kFinalizeLimit{2};  // NCCL may never finalize when a peer has left
constexpr size_t kMaxInFlight = 1024;

struct WireWait : WatchedOperation {
  explicit WireWait(const WireOperation& operation)
      : WatchedOperation(operation.what, OperationKind::kCollective, operation.unit, operation.bytes) {}
};

std::string describe(const WireOperation& operation) {
  std::string text = operation.what;
  if (operation.unit >= 0) text += fmt::format(" of unit {}", operation.unit);
  if (operation.bytes >= 0) text += fmt::format(", {} bytes", operation.bytes);
  return text;
}

int64_t aligned(int64_t bytes) {
  return (bytes + NCCL_WIN_REQUIRED_ALIGNMENT - 1) / NCCL_WIN_REQUIRED_ALIGNMENT * NCCL_WIN_REQUIRED_ALIGNMENT;
}

}  // namespace

NcclCommunicator::NcclCommunicator(const Communicator& comm) : rank_(comm.rank()) {
  try {
    connect(comm);
  } catch (...) {
    abort();
    throw;
  }
}

void NcclCommunicator::connect(const Communicator& comm) {
  const WireOperation operation = {"the start of NCCL"};
  const auto id = comm.from_rank0([&] {
    ncclUniqueId made;
    check(ncclGetUniqueId(&made), operation);
    return made;
  });
  const Deadline deadline("NCCL to connect all ranks");
  comm.run_agreed([&] {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.commName = "plumb";
    complete(operation, [&] { return ncclCommInitRankConfig(&nccl_, comm.size(), id, rank_, &config); });
  });
}

NcclCommunicator::~NcclCommunicator() {
  if (is_aborted()) return;
  if (std::uncaught_exceptions() > 0 || !finalize())
    abort();
  else
    ncclCommDestroy(nccl_);
}

bool NcclCommunicator::finalize() {
  const auto limit = std::chrono::steady_clock::now() + kFinalizeLimit;
  ncclResult_t state = ncclCommFinalize(nccl_);
  while (state == ncclInProgress && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(kPollInterval);
    if (ncclCommGetAsyncError(nccl_, &state) != ncclSuccess) break;
  }
  if (state != ncclSuccess) log_warning("NCCL cannot finalize: {}; it is aborted", ncclGetErrorString(state));
  return state == ncclSuccess;
}

void NcclCommunicator::abort() noexcept {
  if (nccl_ != nullptr) ncclCommAbort(std::exchange(nccl_, nullptr));
}

void NcclCommunicator::check(ncclResult_t result, const WireOperation& operation) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const std::string cause = nccl_ == nullptr ? "" : ncclGetLastError(nccl_);
  const WireOperation failed = oldest_unfinished(operation);
  abort();
  throw_error<CommError>(
      "rank {}: {}: NCCL: {}{}; NCCL_DEBUG=INFO logs more, and the same command resumes from the last checkpoint",
      rank_, describe(failed), ncclGetErrorString(result), cause.empty() ? "" : " (" + cause + ")");
}

WireOperation NcclCommunicator::oldest_unfinished(const WireOperation& last) const {
  for (const InFlight& one : in_flight_)
    if (!one.end.has_happened()) return one.operation;
  return last;
}

bool NcclCommunicator::is_in_progress(const WireOperation& operation) {
  ncclResult_t state = ncclSuccess;
  check(ncclCommGetAsyncError(nccl_, &state), operation);
  check(state, operation);
  return state == ncclInProgress;
}

void NcclCommunicator::complete(const WireOperation& operation, const std::function<ncclResult_t()>& issue) {
  const WireWait wait(operation);
  check(issue(), operation);
  while (is_in_progress(operation)) std::this_thread::yield();
}

void NcclCommunicator::enqueue(const WireOperation& operation, cudaStream_t stream,
                               const std::function<ncclResult_t()>& issue) {
  if (is_aborted()) throw_error<CommError>("rank {}: {} after an error of NCCL", rank_, describe(operation));
  complete(operation, issue);  // an event that is recorded before that would be too early
  if (in_flight_.size() == kMaxInFlight) finish_oldest();
  if (spare_events_.empty()) spare_events_.emplace_back();
  in_flight_.push_back({operation, std::move(spare_events_.back())});
  spare_events_.pop_back();
  in_flight_.back().end.record(stream);
}

// Not cudaStreamSynchronize: it would not return from an operation that never ends, and NCCL reports an error to those
// only that ask.
void NcclCommunicator::finish_oldest() {
  InFlight& oldest = in_flight_.front();
  const WireWait wait(oldest.operation);
  while (!oldest.end.has_happened()) {
    is_in_progress(oldest.operation);
    std::this_thread::sleep_for(kPollInterval);
  }
  spare_events_.push_back(std::move(oldest.end));
  in_flight_.pop_front();
}

void NcclCommunicator::wait() {
  while (!in_flight_.empty()) finish_oldest();
}

NcclMemory::NcclMemory(const Communicator& comm, NcclCommunicator& nccl, int64_t bytes) : nccl_(nccl) {
  const auto size = static_cast<size_t>(aligned(bytes));
  comm.run_agreed([&] {
    void* data = nullptr;
    if (ncclMemAlloc(&data, size) != ncclSuccess) throw_no_device_memory(bytes, "gathered units and gradients");
    data_.reset(data);
  });
  nccl.complete({"the registration of buffers", -1, bytes}, [&] {
    return ncclCommWindowRegister(nccl.get(), data_.get(), size, &window_, NCCL_WIN_COLL_SYMMETRIC);
  });
}

NcclMemory::~NcclMemory() {
  if (window_ != nullptr && !nccl_.is_aborted()) ncclCommWindowDeregister(nccl_.get(), window_);
}

}  // namespace plumb
