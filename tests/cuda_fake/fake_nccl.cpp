#include <fmt/format.h>
#include <nccl.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "tests/cuda_fake/fake.hpp"
#include "tests/cuda_fake/fake_communicator.hpp"
#include "tests/cuda_fake/messages.hpp"

namespace {

using namespace plumb::fake;

/// Calls between ncclGroupStart and ncclGroupEnd, which are one operation.
struct Group {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::string name;
  std::vector<Part> sends, receives;
  std::vector<Access> accesses;
  std::function<void()> finish;
};
Group group;

size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclFloat32:
      return 4;
    case ncclBfloat16:
      return 2;
    default:
      return 1;
  }
}

/// The work of the operation when its turn comes: nothing if the communicator is aborted, and never ends with a fault.
std::function<bool()> step_of(const Group& call, CommObject& comm, int64_t number) {
  const auto messages = std::make_shared<Messages>(comm.ranks, call.name, number, call.sends, call.receives);
  return [messages, comm = comm.shared_from_this(), number, finish = call.finish] {
    if (comm->is_aborted) return true;
    if (number == faults().missing_operation) return false;
    if (number == faults().failing_operation) {
      comm->error = ncclSystemError;
      return false;
    }
    if (!messages->advance()) return false;
    if (finish) finish();
    return true;
  };
}

ncclResult_t issue(Group call) {
  if (call.comm == nullptr) return ncclSuccess;  // an empty group
  CommObject& comm = comm_object(call.comm);
  for (const Access& access : call.accesses)
    if (!comm.windows.empty() && !comm.is_registered(access.begin, access.bytes))
      report(call.name + ": one buffer is in a registered window, another is not");
  const int64_t number = comm.num_operations++;
  return comm.call(call.name, [call, &comm, number] {
    enqueue(call.stream, fmt::format("{} (operation {})", call.name, number), call.accesses,
            step_of(call, comm, number));
  });
}

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, const std::string& name, const std::vector<Part>& sends,
                 const std::vector<Part>& receives, const std::vector<Access>& accesses,
                 std::function<void()> finish = {}) {
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream))
    throw std::logic_error("the fake NCCL has groups of one communicator and one stream");
  group.comm = comm;
  group.stream = stream;
  group.name = group.name.empty() || group.name == name ? name : "group";
  group.sends.insert(group.sends.end(), sends.begin(), sends.end());
  group.receives.insert(group.receives.end(), receives.begin(), receives.end());
  group.accesses.insert(group.accesses.end(), accesses.begin(), accesses.end());
  group.finish = std::move(finish);
  if (group.depth > 0) return ncclSuccess;
  return issue(std::exchange(group, {}));
}

std::byte* bytes_of(const void* pointer) { return static_cast<std::byte*>(const_cast<void*>(pointer)); }

}  // namespace

extern "C" {

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0) return ncclSuccess;
  return issue(std::exchange(group, {}));
}

ncclResult_t ncclSend(const void* buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  return add(comm, stream, "send and receive", {{peer, bytes_of(buffer), bytes}}, {}, {reads(buffer, bytes)});
}

ncclResult_t ncclRecv(void* buffer, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * size_of(type);
  return add(comm, stream, "send and receive", {}, {{peer, bytes_of(buffer), bytes}}, {writes(buffer, bytes)});
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const Ranks& ranks = comm_object(comm).ranks;
  const size_t bytes = count * size_of(type);
  std::vector<Part> sends, receives;
  std::vector<Access> accesses = {reads(from, bytes)};
  for (int rank = 0; rank < ranks.size(); ++rank) {
    std::byte* const part = bytes_of(to) + static_cast<size_t>(rank) * bytes;
    if (part == from) continue;  // in place
    sends.push_back({rank, bytes_of(from), bytes});
    receives.push_back({rank, part, bytes});
    accesses.push_back(writes(part, bytes));
  }
  return add(comm, stream, "all-gather", sends, receives, accesses);
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                               ncclComm_t comm, cudaStream_t stream) {
  const Ranks& ranks = comm_object(comm).ranks;
  const size_t bytes = count * size_of(type);
  std::vector<Part> sends, receives;
  const auto received = std::make_shared<std::vector<std::byte>>(bytes * static_cast<size_t>(ranks.size()));
  for (int rank = 0; rank < ranks.size(); ++rank) {
    sends.push_back({rank, bytes_of(from) + static_cast<size_t>(rank) * bytes, bytes});
    receives.push_back({rank, received->data() + static_cast<size_t>(rank) * bytes, bytes});
  }
  return add(comm, stream, "reduce-scatter", sends, receives,
             {reads(from, bytes * static_cast<size_t>(ranks.size())), writes(to, bytes)},
             [received, to, count, type, first = ranks.mine + 1, size = ranks.size()] {
               add_in_ring(received->data(), to, count, type == ncclBfloat16, first, size);
             });
}
}
