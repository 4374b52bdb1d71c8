// Files by descriptor: exact reads and writes at an offset, whole small files, and names. Offsets are explicit
// everywhere, so that threads and ranks share a file without sharing a position.
// Source: POSIX pread(2), pwrite(2), fsync(2), rename(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace plumb {

/// An open file that closes itself; remembers its path for messages.
class File {
 public:
  /// Throws InputOutputError if the file cannot be opened or is not a regular file; for reading, DataError if it is a
  /// Git LFS pointer, which a clone without git-lfs leaves in place of a large file.
  static File open_for_reading(const std::string& path);
  static File open_for_writing(const std::string& path);
  /// Throws InputOutputError also if the path exists.
  static File create(const std::string& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  int64_t size_bytes() const;
  /// Fills `bytes` from the file; throws DataError if the file ends before.
  void pread_exact(std::span<std::byte> bytes, int64_t offset_bytes) const;
  void pwrite_exact(std::span<const std::byte> bytes, int64_t offset_bytes) const;
  /// Sets the size and takes the disk space for it, so that later writes within it cannot find the disk full.
  void reserve(int64_t size_bytes) const;
  /// Returns after contents and size are durable.
  void sync() const;
  /// Closes now; unlike the destructor, throws the errors that a file system reports only then.
  void close();

  const std::string& path() const { return path_; }

 private:
  File(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  static File open_regular(const std::string& path, int flags);

  int descriptor_ = -1;
  std::string path_;
};

/// Throws InputOutputError "path: cannot VERB: reason" for the current errno.
[[noreturn]] void throw_errno(std::string_view path, std::string_view verb);

/// Throws DataError if the file is larger than `max_bytes`, without reading it.
std::string read_text_file(const std::string& path, int64_t max_bytes);

/// Creates a file, which must not exist, with this content, fsynced.
void write_new_file(const std::string& path, std::string_view content);

/// Copies a regular file to a path that must not exist.
void copy_file(const std::string& from, const std::string& to);

/// Makes names created, renamed or removed in a directory durable.
void sync_directory(const std::string& path);

void rename_path(const std::string& from, const std::string& to);

/// Swaps two names in one step where the file system can; returns whether it did.
bool exchange_paths(const std::string& a, const std::string& b);

bool is_regular_file(const std::string& path);
bool is_directory(const std::string& path);

/// `directory`/`name`
std::string join_path(std::string_view directory, std::string_view name);
/// The directory that holds `path`; "." for a bare name. Trailing slashes do not count.
std::string parent_path(std::string_view path);

}  // namespace plumb
