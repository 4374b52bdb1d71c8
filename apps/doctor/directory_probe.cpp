#include "apps/doctor/directory_probe.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "apps/doctor/gather.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/host_name.hpp"
#include "io/file/reserved_room.hpp"
#include "lib/base/clock.hpp"

namespace plumb {

namespace {

namespace fs = std::filesystem;

constexpr double kSeconds = 10;  // in which what a rank wrote must be seen

bool becomes_true(const std::function<bool()>& condition) {
  for (const double end = steady_seconds() + kSeconds; !condition();
       std::this_thread::sleep_for(std::chrono::milliseconds(20)))
    if (steady_seconds() > end) return false;
  return true;
}

std::string content(int rank, const char* edition) { return fmt::format("{} of rank {}\n", edition, rank); }

bool holds(const std::string& path, const std::string& expected) {
  try {
    return is_regular_file(path) && read_text_file(path, 4096) == expected;
  } catch (const std::exception&) {
    return false;  // a file that is being replaced, on a network file system
  }
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// The error of flock(2), which HDF5 calls when it opens a file unless it is told not to.
std::string lock_error_of(const std::string& path) {
  const char* const locking = std::getenv("HDF5_USE_FILE_LOCKING");
  if (locking != nullptr && (std::string_view(locking) == "FALSE" || std::string_view(locking) == "0")) return "";
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return "";  // reported by the write
  const std::string error = ::flock(descriptor, LOCK_SH | LOCK_NB) == 0 ? "" : std::strerror(errno);
  ::close(descriptor);
  return error;
}

double clock_offset_of(const std::string& path) {
  struct stat status = {};
  const double now = wall_seconds();
  if (::stat(path.c_str(), &status) != 0) return 0;
  const double offset =
      static_cast<double>(status.st_mtim.tv_sec) + 1e-9 * static_cast<double>(status.st_mtim.tv_nsec) - now;
  return std::abs(offset) < kSeconds / 10 ? 0 : offset;  // the file is a moment old
}

bool creates_alone(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor >= 0) ::close(descriptor);
  return descriptor >= 0;
}

}  // namespace

ProbeDirectory::ProbeDirectory(const std::string& output_dir)
    : path_(join_path(output_dir, fmt::format(".plumb-doctor-{}-{}", host_name(), ::getpid()))) {
  std::error_code error;
  for (fs::path at = fs::absolute(output_dir); !at.empty() && !fs::exists(at, error) && at != at.parent_path();
       at = at.parent_path())
    created_.push_back(at);
  fs::create_directories(path_, error);
  if (error) throw_error<InputOutputError>("{}: cannot be created: {}", output_dir, error.message());
}

ProbeDirectory::~ProbeDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  for (const fs::path& path : created_) fs::remove(path, ignored);  // only what is empty
}

DirectoryFacts probe_directory(const Communicator& comm, const std::string& path) {
  std::optional<ProbeDirectory> made;
  std::string failure = comm.rank() == 0 ? error_of([&] { made.emplace(path); }) : "";
  std::string probe = made ? made->path() : "";
  comm.broadcast(failure);
  comm.broadcast(probe);
  DirectoryFacts facts = gather_directory(path);
  if (!failure.empty()) {
    facts.path = path;
    facts.error = comm.rank() == 0 ? failure : "";
    return facts;
  }
  const auto file_of = [&](int rank) { return join_path(probe, fmt::format("rank-{}", rank)); };
  const auto write = [&](const char* edition) {
    if (facts.error.empty())
      facts.error = error_of([&] { write_file_atomically(file_of(comm.rank()), content(comm.rank(), edition)); });
    comm.barrier();
  };
  if (becomes_true([&] { return is_directory(probe); })) {
    facts = gather_directory(path);
  } else {
    facts.path = path;
    facts.error = fmt::format("{}: expected what rank 0 made there, found nothing: it is not shared", path);
  }
  write("first");
  for (int node = 0; node < comm.num_nodes(); ++node) holds(file_of(comm.node_begin(node)), "");  // now in caches
  comm.barrier();
  write("second");
  if (facts.error.empty()) {
    const double begin = steady_seconds();
    for (int node = 0; node < comm.num_nodes(); ++node) {
      const int rank = comm.node_begin(node);
      if (!becomes_true([&] { return holds(file_of(rank), content(rank, "second")); }))
        facts.unseen_ranks.push_back(rank);
    }
    facts.seconds_until_seen = steady_seconds() - begin;
    facts.lock_error = lock_error_of(file_of(comm.rank()));
    facts.clock_offset_seconds = clock_offset_of(file_of(comm.rank()));
  }
  comm.barrier();
  facts.has_won = creates_alone(join_path(probe, "alone"));
  if (facts.error.empty() && comm.local_index(comm.rank()) == 0)
    facts.has_room = ReservedRoom(probe, kDiskRoomBytes).take();
  comm.barrier();
  std::error_code ignored;
  fs::remove(file_of(comm.rank()), ignored);
  if (!made && comm.local_index(comm.rank()) == 0) fs::remove_all(probe, ignored);  // where it is not shared
  comm.barrier();
  return facts;
}

}  // namespace plumb
