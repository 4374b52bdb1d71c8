// Models on the GPU of each rank.
#pragma once

#include "partition/device_buffers.hpp"
#include "partition/placement.hpp"

namespace plumb {

/// The means by which ranks on GPUs exchange units.
enum class GpuWire {
  kNccl,  // one GPU per rank
  kHost   // the memory of the host: ranks may share a GPU
};

/// A single rank exchanges nothing and has no need of the host, whatever `wire` is. compute.stream must outlive the
/// models.
Placement gpu_placement(const ComputeDevice& compute, GpuWire wire, int64_t max_receive_bytes = kMaxReceiveBytes);

}  // namespace plumb
