#include "lib/device/device_choice.hpp"

namespace plumb {

bool is_gpu_build() { return false; }

VisibleGpus find_gpus() { return {.error = "this build is for CPUs only"}; }

}  // namespace plumb
