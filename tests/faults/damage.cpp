#include "tests/faults/damage.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

constexpr const char* kDiskSize = "size=64m";

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::string filler(const Place& place) { return place / "run/filler"; }

}  // namespace

std::string read_file(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

void flip_bit(const std::string& path, double part) {
  std::string bytes = read_file(path);
  require(!bytes.empty(), path);
  const auto place = std::min(bytes.size() - 1, static_cast<size_t>(part * static_cast<double>(bytes.size())));
  bytes[place] = static_cast<char>(bytes[place] ^ 16);
  write_file(path, bytes);
}

std::vector<std::string> files_below(const std::string& directory, const std::string& ending) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && entry.path().string().ends_with(ending)) paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void put_on_own_disk(const Place& place) {
  const std::string run = place / "run", saved = place / "run.saved";
  fs::create_directories(run);
  fs::rename(run, saved);
  fs::create_directories(run);
  require(::mount("tmpfs", run.c_str(), "tmpfs", 0, kDiskSize) == 0, "mount of a small disk");
  fs::copy(saved, run, fs::copy_options::recursive);
  fs::remove_all(saved);
}

void fill_disk(const Place& place, int64_t free_bytes) {
  struct statvfs disk = {};
  require(::statvfs((place / "run").c_str(), &disk) == 0, "statvfs");
  const int64_t size = static_cast<int64_t>(disk.f_bavail * disk.f_frsize) - free_bytes;
  const int descriptor = ::open(filler(place).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  require(descriptor >= 0 && ::posix_fallocate(descriptor, 0, size) == 0, "filling a small disk");
  ::close(descriptor);
}

void free_disk(const Place& place) { fs::remove(filler(place)); }

void make_disk_read_only(const Place& place, bool is_read_only) {
  const unsigned long flags = MS_REMOUNT | (is_read_only ? MS_RDONLY : 0);
  require(::mount("tmpfs", (place / "run").c_str(), "tmpfs", flags, kDiskSize) == 0, "remount");
}

void remove_disk(const Place& place) noexcept { ::umount2((place / "run").c_str(), MNT_DETACH); }

}  // namespace plumb::test
