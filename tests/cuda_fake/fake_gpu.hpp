// Whole models on the fake GPU: their compute stream is the CPU operators of this process, and ranks of a test are
// divided into jobs.
#pragma once

#include <mpi.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "lib/device/events.hpp"
#include "partition/gpu_placement.hpp"
#include "partition/trainable_model.hpp"
#include "tests/cuda_fake/fake.hpp"
#include "tests/cuda_fake/touching_exchange.hpp"

namespace plumb::fake {

/// The compute stream of a test. With `is_eager` it is the code of this process.
struct Gpu {
  explicit Gpu(bool is_eager = true) : stream(Priority::kLow) {
    if (is_eager) compute_on(stream.get());
  }
  ComputeDevice compute() const { return {at::kCPU, stream.get()}; }
  Stream stream;
};

/// Models on the fake, whose exchanges tell it what is read and written between their calls.
inline Placement on_gpu(const Gpu& gpu, GpuWire wire, int64_t max_receive_bytes = kMaxReceiveBytes) {
  Placement placement = gpu_placement(gpu.compute(), wire, max_receive_bytes);
  placement.make_exchange = [make = placement.make_exchange](
                                const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                                const ExchangeOptions& options) -> std::unique_ptr<Exchange> {
    return std::make_unique<TouchingExchange>(make(comm, units, std::move(plan), options));
  };
  return placement;
}

/// Reads and writes what the update of a step does.
inline void touch_shards(TrainableModel& model) {
  for (int unit = 0; unit < std::ssize(model.units()); ++unit) {
    const std::span<float> parameters = model.parameter_shard(unit);
    const std::span<const float> gradients = model.gradient_shard(unit);
    touch("the update",
          {writes(parameters.data(), parameters.size_bytes()), reads(gradients.data(), gradients.size_bytes())});
  }
}

/// The ranks of the test divided into jobs of these sizes, which run at the same time. `body` gets that of this rank,
/// and its number.
inline void run_jobs(const std::vector<int>& sizes,
                     const std::function<void(const Communicator& comm, int job)>& body) {
  int rank = 0, begin = 0, job = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  while (rank >= begin + sizes[job]) begin += sizes[job++];
  MPI_Comm mine = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, job, rank, &mine);
  body(Communicator(0, mine), job);
  MPI_Comm_free(&mine);
}

/// PLUMB_FAKE_SCHEDULES: how many random orders per number of ranks, by hand.
inline uint64_t num_schedules() {
  const char* const wanted = std::getenv("PLUMB_FAKE_SCHEDULES");
  return wanted == nullptr ? 1 : std::strtoull(wanted, nullptr, 10);
}

}  // namespace plumb::fake
