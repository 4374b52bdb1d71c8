// A directory that appears complete or not at all: filled under a temporary name beside the final one, then renamed
// into place. A reader, or a crash, sees the old directory or the new one. All functions here are for rank 0 only.
#pragma once

#include <string>

namespace plumb {

/// The directories that publishing may replace, besides empty ones.
enum class ExistingDirectory {
  kRefuse,
  kReplace,         // a model directory, by its config.json or adapter_config.json
  kReplaceAnything  // what plumb itself keeps there
};

class AtomicDirectory {
 public:
  /// Makes an empty directory under the temporary name of `directory`, and its parents. Throws UsageError if
  /// `directory` is something that may not be replaced, InputOutputError.
  explicit AtomicDirectory(const std::string& directory, ExistingDirectory existing = ExistingDirectory::kRefuse);
  /// Removes the temporary directory, unless it was published.
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// Without slashes at the end.
  const std::string& path() const { return path_; }
  const std::string& temporary_path() const { return temporary_path_; }

  /// Renames the directory into place, durable on return, and removes what it replaced. The files within must have been
  /// fsynced. Throws as the constructor.
  void publish();

 private:
  std::string path_;
  std::string temporary_path_;
  ExistingDirectory existing_;
};

/// Removes a directory so that a reader, or a crash, sees all of it or nothing. Throws InputOutputError.
void remove_atomically(const std::string& directory);

/// Removes a file or directory with a temporary name (io/file/atomic_file.hpp), and nothing else.
void remove_temporary(const std::string& path) noexcept;

}  // namespace plumb
