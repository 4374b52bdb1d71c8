#include "partition/gpu_placement.hpp"

#include <utility>

#include "partition/communicator.hpp"
#include "partition/host_exchange.hpp"
#include "partition/nccl_exchange.hpp"

namespace plumb {

Placement gpu_placement(const ComputeDevice& compute, GpuWire wire, int64_t max_receive_bytes) {
  const auto make = [=](const Communicator& comm, const std::vector<ShardLayout>& units, BufferPlan plan,
                        const ExchangeOptions& options) -> std::unique_ptr<Exchange> {
    if (wire == GpuWire::kHost && comm.size() > 1)
      return std::make_unique<HostExchange>(comm, units, std::move(plan), options, compute);
    return std::make_unique<NcclExchange>(comm, units, std::move(plan), options, compute, max_receive_bytes);
  };
  return {compute.device, /*shares_node_memory=*/false, make};
}

}  // namespace plumb
