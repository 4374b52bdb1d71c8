// A GPU for tests, per process: CUDA's runtime and NCCL over host memory and MPI. Streams are queues that run only
// while the host waits, in a random order that respects events; device memory is poisoned; every operation declares
// what it reads and writes, and happens_before.hpp reports what no event orders. What a real GPU would do at the same
// time as the host, and hide, is an error here by name.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/cuda_fake/happens_before.hpp"

namespace plumb::fake {

/// Faults that a test injects. Operations, allocations, waits and records are counted from 0 in each process since
/// start(); -1: none.
struct Faults {
  int in_progress_polls = 0;        // every call of a non-blocking communicator is in progress for so many polls
  int64_t failing_operation = -1;   // of NCCL: never completes, and the communicator reports an error
  int64_t missing_operation = -1;   // of NCCL: this rank never enters it
  int64_t failing_allocation = -1;  // out of memory
  bool fails_init = false;          // the communicator reports an error before it is ready
  bool hangs_in_finalize = false;   // ncclCommFinalize stays in progress
  int64_t forgotten_wait = -1;      // a cudaStreamWaitEvent for a recorded event, which does nothing
  int64_t forgotten_record = -1;    // a cudaEventRecord, which does nothing
};

/// Begins with nothing allocated. The seed decides in which order streams run.
void start(uint64_t seed, const Faults& faults = {});
/// Everything that was wrong since start(): accesses that nothing orders, messages that do not match, and objects that
/// still exist.
std::vector<std::string> end();

/// Waits for recorded events, and records, since start().
int64_t num_waits();
int64_t num_records();
/// The wait that was forgotten, or that lacks the record that was; empty where other waits imply it.
const std::string& forgotten();

/// Host code computes on this stream, as LibTorch's operators would: a wait of it runs the other streams until the
/// event has happened, and what is enqueued on it runs immediately.
void compute_on(cudaStream_t stream);
/// Host code on the compute stream reads and writes these bytes.
void touch(const std::string& name, const std::vector<Access>& accesses);

/// For fakes of libraries. step: returns true when the operation is over, else it is called again later.
void enqueue(cudaStream_t stream, std::string name, std::vector<Access> accesses, std::function<bool()> step);
/// Runs what is ready until `condition` holds; throws std::runtime_error after a time limit.
void run_until(const std::function<bool()>& condition, const std::string& what);
/// Runs one operation that is ready, if there is one.
bool run_one();
bool is_idle(cudaStream_t stream);

void report(std::string error);
Faults& faults();

/// Memory of the device. `owner` must be the same when it is freed. allocate() returns nullptr where it fails.
enum class Owner { kRuntime, kNccl, kTensor, kHost };
void* allocate(size_t bytes, Owner owner);
bool release(void* pointer, Owner owner);
/// Whether the bytes are in one allocation of this owner.
bool is_allocated(const void* begin, size_t bytes, Owner owner);
/// Objects of libraries that must not outlive end().
void count_object(const char* kind, int change);

/// Collective over all processes: before the first communicator of NCCL.
void connect_processes();

/// From here on all tensors of LibTorch on the CPU are in memory of the device, so that its operators compute on it.
void put_tensors_on_device();

}  // namespace plumb::fake
