// Streams and events of CUDA. Work on one stream runs in order; an event orders the work of two streams, and the host
// waits for neither.
#pragma once

#include <cuda_runtime_api.h>

#include "lib/device/cuda_check.hpp"

namespace plumb {

class Event {
 public:
  Event() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "make an event"); }
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(other.event_) { other.event_ = nullptr; }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  Event& operator=(Event&&) = delete;

  /// Happens when the stream has done what is enqueued on it now. Recorded again, it means the new moment.
  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "record an event"); }
  /// Work that is enqueued on `stream` from now on waits for the event; for nothing if it was never recorded.
  void hold(cudaStream_t stream) const { check_cuda(cudaStreamWaitEvent(stream, event_, 0), "wait for an event"); }
  /// Whether it has happened; true if it was never recorded. Throws an error of the device.
  bool has_happened() const {
    const cudaError_t code = cudaEventQuery(event_);
    if (code != cudaErrorNotReady) check_cuda(code, "complete its work");
    return code == cudaSuccess;
  }
  /// The host waits for it. Never for an operation of NCCL: see NcclCommunicator::wait().
  void synchronize() const { check_cuda(cudaEventSynchronize(event_), "complete its work"); }

 private:
  cudaEvent_t event_ = nullptr;
};

enum class Priority { kLow, kHigh };

class Stream {
 public:
  explicit Stream(Priority priority) {
    int low = 0, high = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&low, &high), "tell its priorities");
    check_cuda(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority == Priority::kHigh ? high : low),
               "make a stream");
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  /// The host waits for all that is enqueued. Never while NCCL may hang: see NcclCommunicator::wait().
  void synchronize() const { check_cuda(cudaStreamSynchronize(stream_), "complete its work"); }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace plumb
