#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "lib/device/device_choice.hpp"

namespace plumb {

namespace {

/// As nvidia-smi writes it: 8-4-4-4-12 digits.
std::string text_of(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (int i = 0; i < 16; ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

}  // namespace

bool is_gpu_build() { return true; }

VisibleGpus find_gpus() {
  VisibleGpus visible = {.is_in_build = true};
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0)
    visible.driver = fmt::format("{}.{}", driver / 1000, driver % 1000 / 10);
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) {
    cudaGetLastError();  // else the next call reports it again
    visible.error = visible.driver.empty() ? "no driver of NVIDIA is loaded" : cudaGetErrorString(code);
    return visible;
  }
  for (int number = 0; number < count; ++number) {
    cudaDeviceProp properties = {};
    if (const cudaError_t code = cudaGetDeviceProperties(&properties, number); code != cudaSuccess) {
      cudaGetLastError();
      visible.error = fmt::format("GPU {}: {}", number, cudaGetErrorString(code));
      visible.gpus.clear();
      return visible;
    }
    visible.gpus.push_back(
        {properties.name, text_of(properties.uuid), static_cast<int64_t>(properties.totalGlobalMem)});
  }
  if (visible.gpus.empty()) visible.error = "the driver shows none";
  return visible;
}

}  // namespace plumb
