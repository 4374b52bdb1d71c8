// Preloaded into the ranks of a run: makes system calls fail as a faulty disk or clock would.
//   PLUMB_DISK_FAULT=CALL:PATH:RANK:ERRNO   CALL (fsync, rename, pwrite, fallocate) fails on paths that contain PATH,
//                                           or end with it if written PATH$
//   PLUMB_CLOCK_JUMP=RANK:SECONDS:FILE      once FILE exists, the time of day is SECONDS later
// The monotonic clock does not change, as in a real jump.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

template <class Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

int this_rank() {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank ? std::atoi(rank) : -1;
}

/// The fields of an environment variable, separated by colons; empty if field `rank_part` names another rank.
std::vector<std::string> parts_of(const char* variable, size_t count, size_t rank_part) {
  const char* const value = std::getenv(variable);
  std::string_view rest = value ? value : "";
  std::vector<std::string> parts;
  while (!rest.empty()) {
    const size_t end = parts.size() + 1 < count ? rest.find(':') : std::string_view::npos;
    parts.emplace_back(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  if (parts.size() != count || std::atoi(parts[rank_part].c_str()) != this_rank()) return {};
  return parts;
}

/// The errno with which a call on this path must fail; 0 for none.
int fault_of(std::string_view call, std::string_view path) {
  static const std::vector<std::string> kFault = parts_of("PLUMB_DISK_FAULT", 4, 2);
  if (kFault.empty() || call != kFault[0]) return 0;
  std::string_view part = kFault[1];
  const bool is_end = part.ends_with('$');
  if (is_end) part.remove_suffix(1);
  const bool matches = is_end ? path.ends_with(part) : path.find(part) != std::string_view::npos;
  return matches ? std::atoi(kFault[3].c_str()) : 0;
}

std::string path_of(int descriptor) {
  std::array<char, 4096> path = {};
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  const ssize_t size = ::readlink(link.c_str(), path.data(), path.size());
  return {path.data(), static_cast<size_t>(size > 0 ? size : 0)};
}

bool fails(std::string_view call, std::string_view path) {
  const int error = fault_of(call, path);
  if (error != 0) errno = error;
  return error != 0;
}

time_t jump() {
  static const std::vector<std::string> kJump = parts_of("PLUMB_CLOCK_JUMP", 3, 0);
  if (kJump.empty() || ::access(kJump[2].c_str(), F_OK) != 0) return 0;
  return std::atoll(kJump[1].c_str());
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier)
extern "C" {

int fsync(int descriptor) {
  static auto* const next = original<int(int)>("fsync");
  return fails("fsync", path_of(descriptor)) ? -1 : next(descriptor);
}

int rename(const char* from, const char* to) noexcept {
  static auto* const next = original<int(const char*, const char*)>("rename");
  return fails("rename", from) ? -1 : next(from, to);
}

ssize_t pwrite(int descriptor, const void* bytes, size_t size, off_t offset) {
  static auto* const next = original<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  return fails("pwrite", path_of(descriptor)) ? -1 : next(descriptor, bytes, size, offset);
}

ssize_t pwrite64(int descriptor, const void* bytes, size_t size, off64_t offset) {
  static auto* const next = original<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  return fails("pwrite", path_of(descriptor)) ? -1 : next(descriptor, bytes, size, offset);
}

int posix_fallocate(int descriptor, off_t offset, off_t size) {
  static auto* const next = original<int(int, off_t, off_t)>("posix_fallocate");
  const int error = fault_of("fallocate", path_of(descriptor));
  return error != 0 ? error : next(descriptor, offset, size);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static auto* const next = original<int(clockid_t, timespec*)>("clock_gettime");
  const int result = next(clock, time);
  if (clock == CLOCK_REALTIME) time->tv_sec += jump();
  return result;
}

int gettimeofday(timeval* __restrict time, void* __restrict zone) noexcept {
  static auto* const next = original<int(timeval*, void*)>("gettimeofday");
  const int result = next(time, zone);
  time->tv_sec += jump();
  return result;
}

time_t time(time_t* result) noexcept {
  static auto* const next = original<time_t(time_t*)>("time");
  const time_t now = next(nullptr) + jump();
  if (result) *result = now;
  return now;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)
