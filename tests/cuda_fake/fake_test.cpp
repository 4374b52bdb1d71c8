// The fake GPU names what it is for: memory that is not the device's, or is freed too early, and operations of NCCL
// that do not match. Part of test_partition.nccl_exchange.
#include <gtest/gtest.h>

#include <string>

#include "partition/nccl_communicator.hpp"
#include "tests/cuda_fake/fake.hpp"

namespace plumb {
namespace {

TEST(CudaFake, NamesWrongUseOfMemoryAndOperationsThatDoNotMatch) {
  fake::connect_processes();
  const Communicator comm;
  std::byte on_host = {};
  fake::start(1);
  {
    const Stream stream(Priority::kLow);
    NcclCommunicator nccl(comm);
    const NcclMemory window(comm, nccl, 4096);
    const size_t bytes = comm.rank() == 0 ? 8 : 16;
    nccl.enqueue({"a test"}, stream.get(), [&] {
      return ncclAllGather(window.data(), window.data() + 1024, bytes, ncclUint8, nccl.get(), stream.get());
    });
    nccl.wait();
    cudaMemsetAsync(&on_host, 0, 1, stream.get());
    void* freed = nullptr;
    cudaMalloc(&freed, 256);
    do cudaMemsetAsync(freed, 0, 256, stream.get());
    while (fake::is_idle(stream.get()));
    cudaFree(freed);
  }
  std::string errors;
  for (const std::string& error : fake::end()) errors += error + "\n";
  const auto names = [&](const char* text) { return errors.find(text) != std::string::npos; };
  EXPECT_TRUE(names(comm.rank() == 0 ? "expects 8 bytes from rank 1, whose operation 0, all-gather, sends 16"
                                     : "expects 16 bytes from rank 0, whose operation 0, all-gather, sends 8"))
      << errors;
  EXPECT_TRUE(names("writes 1 bytes that are not within an allocation of the device")) << errors;
  EXPECT_TRUE(names("memory is freed that memset on stream 0 still needs")) << errors;
}

}  // namespace
}  // namespace plumb
