#include "tests/cuda_fake/fake_communicator.hpp"

#include <cstring>
#include <stdexcept>

#include "tests/cuda_fake/bfloat16.hpp"
#include "tests/cuda_fake/fake.hpp"

namespace plumb::fake {

namespace {

enum BootstrapTag { kJoin, kTable, kAbort, kNumTags };

/// The contents of an ncclUniqueId of the fake.
struct Invitation {
  int root_in_world;
  int serial;
};

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

bool receive_if_there(void* data, int bytes, int from, int tag) {
  int is_there = 0;
  MPI_Iprobe(from, tag, bootstrap_mpi(), &is_there, MPI_STATUS_IGNORE);
  if (is_there != 0) MPI_Recv(data, bytes, MPI_BYTE, from, tag, bootstrap_mpi(), MPI_STATUS_IGNORE);
  return is_there != 0;
}

}  // namespace

CommObject& comm_object(ncclComm_t comm) { return *reinterpret_cast<CommObject*>(comm); }

ncclResult_t CommObject::call(const std::string& name, std::function<void()> effect) {
  if (pending) throw std::logic_error(name + ": the call before is still in progress");
  if (error != ncclSuccess) return error;
  if (is_blocking || faults().in_progress_polls == 0) {
    effect();
    return ncclSuccess;
  }
  polls_left = faults().in_progress_polls;
  pending = std::move(effect);
  return ncclInProgress;
}

ncclResult_t CommObject::poll() {
  if (hears_of_abort()) error = ncclRemoteError;
  if (error != ncclSuccess) return error;
  if (!is_ready) {
    if (faults().fails_init) return error = ncclSystemError;
    if (!join()) return ncclInProgress;
    is_ready = true;
  }
  if (pending && --polls_left < 0) std::exchange(pending, {})();
  if (pending || (is_finalizing && faults().hangs_in_finalize)) return ncclInProgress;
  return ncclSuccess;
}

bool CommObject::is_registered(const void* begin, size_t bytes) const {
  const auto* const first = static_cast<const std::byte*>(begin);
  for (const auto& [window, size] : windows)
    if (const auto* const start = static_cast<const std::byte*>(window);
        first >= start && first + bytes <= start + size)
      return true;
  return false;
}

bool CommObject::join() {
  const auto tag = [&](BootstrapTag what) { return ranks.tag * kNumTags + what; };
  std::pair<int, int> one;
  if (world_rank() != root_in_world)
    return receive_if_there(ranks.in_world.data(), num_ranks * static_cast<int>(sizeof(int)), root_in_world,
                            tag(kTable));
  while (receive_if_there(&one, sizeof one, MPI_ANY_SOURCE, tag(kJoin))) joined.push_back(one);
  if (static_cast<int>(joined.size()) < num_ranks) return false;
  for (const auto& [rank, in_world] : joined) ranks.in_world[rank] = in_world;
  for (const int in_world : ranks.in_world)
    if (in_world != root_in_world)
      MPI_Send(ranks.in_world.data(), num_ranks * static_cast<int>(sizeof(int)), MPI_BYTE, in_world, tag(kTable),
               bootstrap_mpi());
  return true;
}

bool CommObject::hears_of_abort() const {
  int is_there = 0;
  MPI_Iprobe(MPI_ANY_SOURCE, ranks.tag * kNumTags + kAbort, bootstrap_mpi(), &is_there, MPI_STATUS_IGNORE);
  return is_there != 0;
}

void CommObject::tell_of_abort() const {
  if (!is_ready) return;
  for (int rank = 0; rank < num_ranks; ++rank)
    if (rank != ranks.mine)
      MPI_Send(nullptr, 0, MPI_BYTE, ranks.in_world[rank], ranks.tag * kNumTags + kAbort, bootstrap_mpi());
}

void add_in_ring(const std::byte* parts, void* to, size_t count, bool is_bfloat16, int first, int size) {
  for (size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int step = 0; step < size; ++step) {
      const auto part = static_cast<size_t>((first + step) % size);
      if (is_bfloat16)
        sum = to_float(to_bfloat16(sum + to_float(reinterpret_cast<const uint16_t*>(parts)[part * count + i])));
      else
        sum += reinterpret_cast<const float*>(parts)[part * count + i];
    }
    if (is_bfloat16)
      static_cast<uint16_t*>(to)[i] = to_bfloat16(sum);
    else
      static_cast<float*>(to)[i] = sum;
  }
}

}  // namespace plumb::fake

using namespace plumb::fake;

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclInProgress:
      return "NCCL operation in progress";
    case ncclSystemError:
      return "unhandled system error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    default:
      return "invalid usage";
  }
}
const char* ncclGetLastError(ncclComm_t) { return "a fault of the test"; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int serial = 0;
  const Invitation invitation = {world_rank(), serial++};
  std::memset(id, 0, sizeof *id);
  std::memcpy(id, &invitation, sizeof invitation);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int num_ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  Invitation invitation;
  std::memcpy(&invitation, &id, sizeof invitation);
  const auto made = std::make_shared<CommObject>();
  made->self = made;
  made->num_ranks = num_ranks;
  made->root_in_world = invitation.root_in_world;
  made->ranks = {rank, std::vector<int>(static_cast<size_t>(num_ranks), -1),
                 invitation.root_in_world + 16 * invitation.serial};
  made->is_blocking = config->blocking != 0;
  const std::pair<int, int> me = {rank, world_rank()};
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Isend(&me, sizeof me, MPI_BYTE, invitation.root_in_world, made->ranks.tag * kNumTags + kJoin, bootstrap_mpi(),
            &request);
  MPI_Request_free(&request);  // small enough to be copied at once
  *comm = reinterpret_cast<ncclComm_t>(made.get());
  count_object("communicators", 1);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm_object(comm).poll();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  CommObject& object = comm_object(comm);
  object.is_finalizing = true;
  const ncclResult_t result = object.call("ncclCommFinalize", [] {});
  return faults().hangs_in_finalize ? ncclInProgress : result;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (!comm_object(comm).windows.empty()) report("a communicator is destroyed before its windows");
  count_object("communicators", -1);
  comm_object(comm).self.reset();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  CommObject& object = comm_object(comm);
  object.is_aborted = true;
  object.tell_of_abort();
  count_object("communicators", -1);
  object.self.reset();
  return ncclSuccess;
}

ncclResult_t ncclMemAlloc(void** pointer, size_t bytes) {
  *pointer = allocate(bytes, Owner::kNccl);
  return *pointer == nullptr ? ncclUnhandledCudaError : ncclSuccess;
}

ncclResult_t ncclMemFree(void* pointer) { return release(pointer, Owner::kNccl) ? ncclSuccess : ncclInvalidArgument; }

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buffer, size_t bytes, ncclWindow_t* window, int) {
  if (reinterpret_cast<size_t>(buffer) % NCCL_WIN_REQUIRED_ALIGNMENT != 0 || !is_allocated(buffer, bytes, Owner::kNccl))
    return ncclInvalidArgument;
  CommObject& object = comm_object(comm);
  *window = reinterpret_cast<ncclWindow_t>(buffer);
  return object.call("ncclCommWindowRegister",
                     [&object, buffer, bytes] { object.windows.emplace_back(buffer, bytes); });
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  std::erase_if(comm_object(comm).windows,
                [&](const auto& one) { return one.first == reinterpret_cast<const void*>(window); });
  return ncclSuccess;
}
}
