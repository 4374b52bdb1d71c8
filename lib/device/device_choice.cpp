#include "lib/device/device_choice.hpp"

#include <map>
#include <set>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

void check_sees_gpus(const RankOnHost& rank, size_t number) {
  if (!rank.visible.is_in_build)
    throw_error<UsageError>("--device cuda: rank {} on {} is a program without CUDA; ./dev build gpu makes one with it",
                            number, rank.host);
  if (rank.visible.gpus.empty())
    throw_error<InputOutputError>(
        "--device cuda: expected a GPU for rank {} on {}, got none: {}; nvidia-smi on that host shows what the driver "
        "sees, CUDA_VISIBLE_DEVICES what the launcher lets through; --device cpu needs none",
        number, rank.host, rank.visible.error);
}

}  // namespace

int gpu_number(int local_rank, int num_visible) { return num_visible > 1 ? local_rank % num_visible : 0; }

std::vector<int> choose_gpus(std::span<const RankOnHost> ranks, bool may_share) {
  std::vector<int> numbers;
  std::map<std::pair<std::string, std::string>, size_t> owners;  // by host and UUID
  for (size_t i = 0; i < ranks.size(); ++i) {
    const RankOnHost& rank = ranks[i];
    check_sees_gpus(rank, i);
    numbers.push_back(gpu_number(rank.local_rank, static_cast<int>(rank.visible.gpus.size())));
    const Gpu& gpu = rank.visible.gpus[numbers.back()];
    const auto [owner, is_first] = owners.try_emplace({rank.host, gpu.uuid}, i);
    if (is_first || may_share) continue;
    throw_error<UsageError>(
        "--device cuda: expected a GPU for each rank, ranks {} and {} on {} share {} ({}); start as many ranks on a "
        "host "
        "as it has GPUs (mpirun --map-by ppr:N:node, srun --ntasks-per-node=N)",
        owner->second, i, rank.host, gpu.uuid, gpu.name);
  }
  return numbers;
}

std::string describe_hidden_gpus(std::span<const RankOnHost> ranks) {
  std::map<std::string, std::set<std::string>> uuids;  // by host, of ranks that see one GPU
  for (const RankOnHost& rank : ranks)
    if (rank.visible.gpus.size() == 1) uuids[rank.host].insert(rank.visible.gpus.front().uuid);
  for (const auto& [host, seen] : uuids)
    if (seen.size() > 1)
      return fmt::format(
          "each rank on {} sees its own GPU only, so that NCCL copies through the memory of the host: start with all "
          "GPUs visible (srun --gpus-per-node=N --gpu-bind=none instead of --gpus-per-task); plumb takes one each",
          host);
  return "";
}

void check_device(DeviceOption device) {
  if (device != DeviceOption::kCuda) return;
  if (is_gpu_build())
    throw UsageError(
        "--device cuda: expected cpu or auto: this version has kernels and exchanges for GPUs, but its models compute "
        "on CPUs");
  throw UsageError(
      "--device cuda: expected a build with CUDA, got one for CPUs only; PLUMB_LIBTORCH=DIR ./dev build gpu makes "
      "one (DIR: a LibTorch with CUDA), whose models still compute on CPUs in this version");
}

}  // namespace plumb
