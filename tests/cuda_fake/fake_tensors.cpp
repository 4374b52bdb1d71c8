#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstring>

#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

namespace {

/// As the caching allocator of CUDA: memory of the device for tensors.
struct TensorAllocator : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, c10::Device(c10::DeviceType::CPU)};
    void* const data = fake::allocate(bytes, Owner::kTensor);
    return {data, data, &free, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  static void free(void* data) { fake::release(data, Owner::kTensor); }
};

}  // namespace

void put_tensors_on_device() {
  static auto& allocator = *new TensorAllocator;
  c10::SetAllocator(c10::DeviceType::CPU, &allocator, /*priority=*/1);
}

}  // namespace plumb::fake
