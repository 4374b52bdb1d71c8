#include "partition/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include "lib/base/check.hpp"
#include "lib/base/shared_memory_directory.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kPage = 4096;

/// An open file of this directory; closed at the end.
struct Descriptor {
  int number = -1;
  Descriptor() = default;
  explicit Descriptor(int opened) : number(opened) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

[[noreturn]] void throw_no_room(const std::string& directory, int64_t bytes, int num_ranks, int error) {
  struct statvfs disk = {};
  const bool is_known = ::statvfs(directory.c_str(), &disk) == 0;
  const auto bytes_of = [&](fsblkcnt_t blocks) { return render_bytes(static_cast<int64_t>(blocks * disk.f_frsize)); };
  throw_error<InputOutputError>(
      "{}: expected room for {} that the {} ranks of this node share, got {}{}; make it larger (docker run --shm-size, "
      "mount -o remount,size=SIZE {}), start fewer ranks per node, or set {} to a directory in memory with more room",
      directory, render_bytes(bytes), num_ranks,
      is_known ? fmt::format("{} of {}", bytes_of(disk.f_bavail), bytes_of(disk.f_blocks)) : "none",
      error == 0 || error == ENOSPC ? "" : fmt::format(" ({})", std::strerror(error)), directory,
      kSharedMemoryVariable);
}

/// Asked before pages are claimed: a claim that fails half-way takes them from other jobs until it is undone.
void check_room(const std::string& directory, int64_t bytes, int num_ranks) {
  struct statvfs disk = {};
  if (::statvfs(directory.c_str(), &disk) != 0) return;
  const auto free_bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  if (static_cast<double>(bytes) > free_bytes) throw_no_room(directory, bytes, num_ranks, ENOSPC);
}

/// Returns the error number; 0: done.
int claim(int descriptor, int64_t begin, int64_t end) {
  if (begin >= end) return 0;
  int error = EINTR;
  while (error == EINTR) error = ::posix_fallocate(descriptor, begin, end - begin);
  return error == EOPNOTSUPP || error == EINVAL ? 0 : error;
}

/// Collective: the file of a node, which no directory lists any more; none for a rank that is alone on its node.
void open_shared(const Communicator& comm, int64_t bytes, Descriptor& file) {
  const std::string directory = shared_memory_directory();
  const int me = comm.local_index(comm.rank()), num_ranks = comm.node_size(comm.node());
  std::array<char, 4096> path = {};
  const auto open_file = [&](int flags) {
    file.number = ::open(path.data(), O_RDWR | O_CLOEXEC | flags, 0600);
    if (file.number < 0)
      throw_error<InputOutputError>("{}: cannot be {}: {}; {} names another directory for shared memory", path.data(),
                                    flags != 0 ? "created" : "opened", std::strerror(errno), kSharedMemoryVariable);
  };
  const auto unlink_file = [&] {
    if (me == 0 && file.number >= 0) ::unlink(path.data());
  };
  try {
    comm.run_agreed([&] {
      if (me != 0 || num_ranks == 1) return;
      check_room(directory, bytes, num_ranks);
      std::array<char, 256> host = {};
      ::gethostname(host.data(), host.size() - 1);
      static int number = 0;
      fmt::format_to_n(path.data(), path.size() - 1, "{}/plumb-{}-{}-{}", directory, host.data(), ::getpid(), number++);
      ::unlink(path.data());  // of a killed process of the same number
      open_file(O_CREAT | O_EXCL);
      if (::ftruncate(file.number, bytes) != 0) throw_no_room(directory, bytes, num_ranks, errno);
    });
    MPI_Bcast(path.data(), static_cast<int>(path.size()), MPI_CHAR, 0, comm.node_mpi());
    comm.run_agreed([&] {
      if (me != 0) open_file(0);
    });
  } catch (const AgreedError&) {
    unlink_file();
    throw;
  }
  unlink_file();
}

std::byte* map(int descriptor, int64_t bytes) {
  const int flags = MAP_SHARED | (descriptor < 0 ? MAP_ANONYMOUS : 0);
  void* const data = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, flags, descriptor, 0);
  if (data == MAP_FAILED)
    throw_error<InputOutputError>("shared memory of {}: cannot be mapped: {}", render_bytes(bytes),
                                  std::strerror(errno));
  return static_cast<std::byte*>(data);
}

}  // namespace

SharedMemory::SharedMemory(const Communicator& comm, int64_t bytes) : bytes_((bytes + kPage - 1) / kPage * kPage) {
  const int num_ranks = comm.node_size(comm.node()), me = comm.local_index(comm.rank());
  Descriptor file;
  open_shared(comm, bytes_, file);
  comm.run_agreed([&] {
    // each rank claims a part: pages go to the memory of the processor that claims them
    const int64_t part = (bytes_ / kPage + num_ranks - 1) / num_ranks * kPage;
    const int error = num_ranks == 1 ? 0 : claim(file.number, me * part, std::min(bytes_, (me + 1) * part));
    if (error != 0) throw_no_room(shared_memory_directory(), bytes_, num_ranks, error);
    data_ = map(file.number, bytes_);
  });
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(bytes_));
}

void claim_memory_of_mpi(const Communicator& comm, const std::vector<std::string>& files) {
  comm.run_agreed([&] {
    const std::string directory = shared_memory_directory();
    for (const std::string& path : files) {
      const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
      struct stat status = {};
      if (file.number < 0 || ::fstat(file.number, &status) != 0) continue;  // deleted, or another user's
      check_room(directory, status.st_size - status.st_blocks * 512, comm.node_size(comm.node()));
      if (const int error = claim(file.number, 0, status.st_size); error != 0)
        throw_no_room(directory, status.st_size, comm.node_size(comm.node()), error);
    }
  });
}

void place_memory_of_mpi() {
  const std::string directory = shared_memory_directory();
  if (std::getenv(kSharedMemoryVariable) == nullptr) return;
  ::setenv("OMPI_MCA_btl_vader_backing_directory", directory.c_str(), /*overwrite=*/0);
  ::setenv("OMPI_MCA_osc_sm_backing_directory", directory.c_str(), /*overwrite=*/0);
}

}  // namespace plumb
