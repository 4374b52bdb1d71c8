// Which device a rank computes on: a function of what the user wants, of the GPUs that each rank sees, and of its place
// on its host. A GPU is known by its UUID, since its number depends on what the launcher lets a process see.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/base/named.hpp"

namespace plumb {

enum class DeviceOption { kAuto, kCpu, kCuda };
template <>
inline constexpr auto kNames<DeviceOption> = std::to_array<Named<DeviceOption>>({{"auto", DeviceOption::kAuto},
                                                                                 {"cpu", DeviceOption::kCpu},
                                                                                 {"cuda", DeviceOption::kCuda}});

struct Gpu {
  std::string name = {};  // "NVIDIA H200"
  std::string uuid = {};  // "GPU-..."
  int64_t memory_bytes = 0;
};

/// The GPUs that one process sees.
struct VisibleGpus {
  bool is_in_build = false;  // is_gpu_build() of its program
  std::string driver = {};   // "13.0"; "": no driver
  std::string error = {};    // why it sees none; "": it sees some
  std::vector<Gpu> gpus = {};
};

/// Whether this program has CUDA.
bool is_gpu_build();

/// Asks CUDA's runtime, which may take a second where it wakes GPUs. Throws nothing.
VisibleGpus find_gpus();

/// A rank of a run. Ranks of one host are numbered from 0.
struct RankOnHost {
  std::string host;
  int local_rank = 0;
  VisibleGpus visible = {};
};

/// The number of the GPU, among those that it sees, of a rank: by its place on the host.
int gpu_number(int local_rank, int num_visible);

/// By rank, gpu_number() of --device cuda. may_share: ranks exchange through the memory of the host, since NCCL needs a
/// GPU for each. Throws UsageError, and InputOutputError where a rank sees no GPU: the message names the rank, the host
/// and the cure.
std::vector<int> choose_gpus(std::span<const RankOnHost> ranks, bool may_share);

/// A warning where the launcher shows each rank of a host a GPU of its own only, so that NCCL cannot copy from GPU to
/// GPU; "" otherwise.
std::string describe_hidden_gpus(std::span<const RankOnHost> ranks);

/// Throws UsageError for a device that models of this build cannot be on.
void check_device(DeviceOption device);

}  // namespace plumb
