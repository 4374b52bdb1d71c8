#include "io/file/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr int64_t kCopyBytes = 1 << 20;

/// How a pointer file begins, and the limit for its size. Source: git-lfs, docs/spec.md.
constexpr std::string_view kLfsPointer = "version https://git-lfs.github.com/spec/";
constexpr int64_t kMaxLfsPointerBytes = 1024;

/// Repeats a system call that a signal interrupted.
template <class Call>
auto retry_interrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) result = call();
  return result;
}

}  // namespace

void throw_errno(std::string_view path, std::string_view verb) {
  const int error = errno;
  throw_error<InputOutputError>("{}: cannot {}: {}", path, verb, std::strerror(error));
}

File File::open_regular(const std::string& path, int flags) {
  if (path.find('\0') != std::string::npos)
    throw_error<InputOutputError>("{}: expected a path without NUL bytes, got one after this", path.c_str());
  // without O_NONBLOCK, opening a named pipe waits for its other end
  const int descriptor = retry_interrupted([&] { return ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666); });
  if (descriptor < 0) throw_errno(path, (flags & O_CREAT) != 0 ? "create" : "open");
  File file(descriptor, path);
  struct stat status = {};
  if (::fstat(descriptor, &status) != 0) throw_errno(path, "inspect");
  if (!S_ISREG(status.st_mode))
    throw_error<InputOutputError>("{}: expected a regular file, got {}", path,
                                  S_ISDIR(status.st_mode) ? "a directory" : "a special file");
  return file;
}

File File::open_for_reading(const std::string& path) {
  File file = open_regular(path, O_RDONLY);
  const int64_t size_bytes = file.size_bytes();
  if (size_bytes < std::ssize(kLfsPointer) || size_bytes > kMaxLfsPointerBytes) return file;
  std::string start(kLfsPointer.size(), '\0');
  file.pread_exact(std::as_writable_bytes(std::span(start)), 0);
  if (start == kLfsPointer)
    throw_error<DataError>("{}: expected the file itself, got a Git LFS pointer to it; fetch it: git -C {} lfs pull",
                           path, parent_path(path));
  return file;
}
File File::open_for_writing(const std::string& path) { return open_regular(path, O_WRONLY); }
File File::create(const std::string& path) { return open_regular(path, O_WRONLY | O_CREAT | O_EXCL); }

File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int64_t File::size_bytes() const {
  struct stat status = {};
  if (::fstat(descriptor_, &status) != 0) throw_errno(path_, "inspect");
  return status.st_size;
}

void File::pread_exact(std::span<std::byte> bytes, int64_t offset_bytes) const {
  const WatchedOperation watched("read of a file", OperationKind::kFile, -1, std::ssize(bytes));
  while (!bytes.empty()) {
    const ssize_t n = retry_interrupted([&] { return ::pread(descriptor_, bytes.data(), bytes.size(), offset_bytes); });
    if (n < 0) throw_errno(path_, fmt::format("read {} bytes at offset {}", bytes.size(), offset_bytes));
    if (n == 0)
      throw_error<DataError>("{}: offset {}: expected {} more bytes, got the end of the file; was it truncated?", path_,
                             offset_bytes, bytes.size());
    bytes = bytes.subspan(n);
    offset_bytes += n;
  }
}

void File::pwrite_exact(std::span<const std::byte> bytes, int64_t offset_bytes) const {
  const WatchedOperation watched("write of a file", OperationKind::kFile, -1, std::ssize(bytes));
  while (!bytes.empty()) {
    const ssize_t n =
        retry_interrupted([&] { return ::pwrite(descriptor_, bytes.data(), bytes.size(), offset_bytes); });
    if (n < 0) throw_errno(path_, fmt::format("write {} bytes at offset {}", bytes.size(), offset_bytes));
    bytes = bytes.subspan(n);
    offset_bytes += n;
  }
}

void File::reserve(int64_t size_bytes) const {
  if (retry_interrupted([&] { return ::ftruncate(descriptor_, size_bytes); }) != 0)
    throw_errno(path_, fmt::format("set the size to {} bytes", size_bytes));
  if (size_bytes == 0) return;
  // checked first: a reservation that fails half-way fills the disk for all until it is undone
  struct statvfs disk = {};
  const bool is_known = ::fstatvfs(descriptor_, &disk) == 0;
  const auto free_bytes = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  int error = is_known && static_cast<double>(size_bytes) > free_bytes ? ENOSPC : 0;
  while (error == 0 || error == EINTR) {
    error = ::posix_fallocate(descriptor_, 0, size_bytes);
    if (error == 0) return;
  }
  // some network file systems cannot reserve; there a full disk shows when it is written
  if (error == EOPNOTSUPP || error == EINVAL) return;
  errno = error;
  throw_errno(path_, fmt::format("reserve {} bytes", size_bytes));
}

void File::sync() const {
  const WatchedOperation watched("fsync of a file", OperationKind::kFile);
  if (retry_interrupted([&] { return ::fsync(descriptor_); }) != 0) throw_errno(path_, "fsync");
}

void File::close() {
  // after EINTR the descriptor is gone on Linux, so close is never repeated
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) throw_errno(path_, "close");
}

std::string read_text_file(const std::string& path, int64_t max_bytes) {
  const File file = File::open_for_reading(path);
  const int64_t size_bytes = file.size_bytes();
  if (size_bytes > max_bytes)
    throw_error<DataError>("{}: expected at most {} bytes, got {}", path, max_bytes, size_bytes);
  std::string text(size_bytes, '\0');
  file.pread_exact(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

void write_new_file(const std::string& path, std::string_view content) {
  File file = File::create(path);
  file.pwrite_exact(std::as_bytes(std::span(content)), 0);
  file.sync();
  file.close();
}

void copy_file(const std::string& from, const std::string& to) {
  const File source = File::open_for_reading(from);
  File target = File::create(to);
  const int64_t size_bytes = source.size_bytes();
  std::vector<std::byte> buffer(std::min(size_bytes, kCopyBytes));
  for (int64_t done = 0; done < size_bytes;) {
    const auto piece = std::span(buffer).first(std::min(size_bytes - done, kCopyBytes));
    source.pread_exact(piece, done);
    target.pwrite_exact(piece, done);
    done += static_cast<int64_t>(piece.size());
  }
  target.sync();
  target.close();
}

void sync_directory(const std::string& path) {
  const int descriptor = retry_interrupted([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (descriptor < 0) throw_errno(path, "open");
  // EINVAL: a file system whose directories need no fsync
  const bool is_synced = retry_interrupted([&] { return ::fsync(descriptor); }) == 0 || errno == EINVAL;
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (!is_synced) throw_errno(path, "fsync");
}

void rename_path(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_errno(from, fmt::format("rename to {}", to));
}

bool exchange_paths(const std::string& a, const std::string& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

bool is_regular_file(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool is_directory(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::string join_path(std::string_view directory, std::string_view name) {
  const bool has_slash = directory.ends_with('/');
  return fmt::format("{}{}{}", directory, has_slash || directory.empty() ? "" : "/", name);
}

std::string parent_path(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(path.substr(0, std::max<size_t>(slash, 1)));
}

}  // namespace plumb
