// Exchange of several ranks that share one GPU, which NCCL refuses: a NodeExchange in the memory of the host, with
// copies through pinned pieces at its edges. The host waits for every copy, so it is slow; it is the second
// implementation on GPUs that bits are compared with.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "lib/device/memory.hpp"
#include "lib/device/transfer.hpp"
#include "partition/device_buffers.hpp"
#include "partition/node_exchange.hpp"

namespace plumb {

class HostExchange : public Exchange {
 public:
  /// Collective: over two ranks or more. comm and units must outlive this object; master shards and levels are memory of the
  /// device.
  HostExchange(const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
               const ExchangeOptions& options, const ComputeDevice& compute);

  void start_gather(int gather, std::span<const float> master_shard) override;
  void start_gather(int gather, std::span<const std::byte> shard) override;
  at::Tensor finish_gather(int gather) override;
  void release_gather() override {}  // that of the host has been released once it was copied
  void forget_converted() override { host_.forget_converted(); }

  at::Tensor gradient_buffer(int reduce) override;
  void start_reduce(int reduce, int64_t accumulation, std::span<float* const> levels) override;
  void finish_reduce(int reduce) override;

 private:
  /// The open sums of a reduce's shard, on the host; the total is copied to `target` on the device.
  struct HostLevels {
    std::vector<std::vector<float>> memory;
    std::vector<float*> levels;
    float* target = nullptr;
    int64_t accumulation = 0;
  };
  std::byte* gradient_data(const UnitOperation& operation) const;

  const std::vector<ShardLayout>& units_;
  int64_t accumulation_steps_;
  ComputeDevice compute_;
  NodeExchange host_;
  DeviceMemory memory_;  // gather buffers, then gradients
  Transfer transfer_;
  std::vector<std::byte> shard_;    // that is gathered
  std::vector<HostLevels> levels_;  // by reduce
};

}  // namespace plumb
