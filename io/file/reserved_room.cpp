#include "io/file/reserved_room.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"

namespace plumb {

namespace {

/// A file that no directory lists; -1 where none can be made.
int open_nameless(const std::string& directory) {
  const int descriptor = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor >= 0) return descriptor;
  const std::string name = temporary_path_of(join_path(directory, "room"));  // not every file system has O_TMPFILE
  const int named = ::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

/// Whether one file may be this large: beyond the limit the kernel would end the process.
bool is_within_file_size_limit(int64_t num_bytes) {
  struct rlimit limit = {};
  return ::getrlimit(RLIMIT_FSIZE, &limit) == 0 && static_cast<rlim_t>(num_bytes) <= limit.rlim_cur;
}

}  // namespace

int64_t free_disk_bytes(const std::string& directory) {
  struct statvfs disk = {};
  if (::statvfs(directory.c_str(), &disk) != 0) return -1;
  return static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
}

bool ReservedRoom::take() {
  if (descriptor_ >= 0) return true;
  // asked first: a reservation that fails half-way fills the disk for all until it is undone
  const int64_t free_bytes = free_disk_bytes(directory_);
  if (free_bytes >= 0 && free_bytes < num_bytes_) return false;
  if (num_bytes_ <= 0 || !is_within_file_size_limit(num_bytes_)) return true;
  const int descriptor = open_nameless(directory_);
  if (descriptor < 0) return errno != ENOSPC && errno != EDQUOT;
  // not posix_fallocate, which writes to every block where the file system cannot reserve
  int result = -1;
  do result = ::fallocate(descriptor, 0, 0, num_bytes_);
  while (result != 0 && errno == EINTR);
  if (result == 0) {
    descriptor_ = descriptor;
    return true;
  }
  const bool is_refused = errno == ENOSPC || errno == EDQUOT;
  ::close(descriptor);
  return !is_refused;
}

void ReservedRoom::give_back() {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

}  // namespace plumb
