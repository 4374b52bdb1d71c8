// A log that others read while it grows. Where the disk is full, its lines wait in memory until there is room: a log
// must not end the run that it describes.
#pragma once

#include <string>
#include <string_view>

namespace plumb {

class AppendedFile {
 public:
  /// Opens the file, or creates it. Throws InputOutputError.
  explicit AppendedFile(const std::string& path);
  /// Warns of lines for which there was no room until now.
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  /// Readable by others when this returns, unless the disk is full, of which the first call warns. Throws
  /// InputOutputError.
  void append(std::string_view bytes);
  /// Fsyncs everything appended. Throws InputOutputError, also where there is still no room for some of it.
  void sync();

  const std::string& path() const { return path_; }

 private:
  /// Returns whether nothing waits any more.
  bool write_pending();

  std::string path_;
  int descriptor_;
  std::string pending_;
  bool has_warned_ = false;
};

}  // namespace plumb
