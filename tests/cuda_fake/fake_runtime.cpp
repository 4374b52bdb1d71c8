#include <cuda_runtime_api.h>

#include <cstring>

#include "tests/cuda_fake/fake.hpp"
#include "tests/cuda_fake/fake_objects.hpp"

namespace {

using plumb::fake::Access;
using plumb::fake::EventObject;
using plumb::fake::Owner;

EventObject& event_object(cudaEvent_t event) { return *reinterpret_cast<EventObject*>(event); }

cudaError_t new_memory(void** pointer, size_t bytes, Owner owner) {
  *pointer = plumb::fake::allocate(bytes, owner);
  return *pointer == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t free_memory(void* pointer, Owner owner) {
  return plumb::fake::release(pointer, owner) ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace

extern "C" {

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNotReady:
      return "device not ready";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  plumb::fake::host_waits_for_all();
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) { return new_memory(pointer, bytes, Owner::kRuntime); }
cudaError_t cudaFree(void* pointer) { return free_memory(pointer, Owner::kRuntime); }
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned int) {
  return new_memory(pointer, bytes, Owner::kHost);
}
cudaError_t cudaFreeHost(void* pointer) { return free_memory(pointer, Owner::kHost); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = size_t{1} << 30;
  *free = size_t{1} << 20;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  std::vector<Access> accesses;
  if (kind != cudaMemcpyHostToDevice) accesses.push_back(plumb::fake::reads(from, bytes));
  if (kind != cudaMemcpyDeviceToHost) accesses.push_back(plumb::fake::writes(to, bytes));
  plumb::fake::enqueue(stream, "copy", accesses, [=] {
    std::memcpy(to, from, bytes);
    return true;
  });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  plumb::fake::enqueue(stream, "memset", {plumb::fake::writes(pointer, bytes)}, [=] {
    std::memset(pointer, value, bytes);
    return true;
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  *stream = reinterpret_cast<cudaStream_t>(plumb::fake::new_stream());
  plumb::fake::count_object("streams", 1);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) {  // what is enqueued still runs, as the runtime promises
  plumb::fake::count_object("streams", -1);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  plumb::fake::run_until([&] { return plumb::fake::is_idle(stream); }, "cudaStreamSynchronize");
  plumb::fake::host_saw(plumb::fake::stream_object(stream).clock);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  plumb::fake::wait(stream, event_object(event));
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = reinterpret_cast<cudaEvent_t>(new EventObject);
  plumb::fake::count_object("events", 1);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete &event_object(event);
  plumb::fake::count_object("events", -1);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  plumb::fake::record(event_object(event), stream);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  plumb::fake::run_until([&] { return plumb::fake::has_happened(event_object(event)); }, "cudaEventSynchronize");
  plumb::fake::host_saw(event_object(event).clock);
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (!plumb::fake::has_happened(event_object(event))) plumb::fake::run_one();
  if (!plumb::fake::has_happened(event_object(event))) return cudaErrorNotReady;
  plumb::fake::host_saw(event_object(event).clock);
  return cudaSuccess;
}
}
