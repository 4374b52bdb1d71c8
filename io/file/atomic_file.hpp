// Files that appear complete or not at all: written under a temporary name beside the final one, fsynced, then renamed
// into place. A reader, or a crash, sees the old content or the new one, never a part.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace plumb {

/// NAME.tmp-HOST-PROCESS, where this process writes what will be NAME.
std::string temporary_path_of(const std::string& path);

struct TemporaryName {
  std::string name;  // without the part that makes it temporary
  std::string host;
  int64_t process = 0;
};

/// None where this is not a name from temporary_path_of().
std::optional<TemporaryName> parse_temporary_name(std::string_view name);

/// The name of a file and the temporary one, under which the user of this object creates and writes it.
class AtomicFile {
 public:
  /// Removes a file of the temporary name, which a killed process of the same number left.
  explicit AtomicFile(const std::string& path);
  /// Removes the temporary file, unless it was published.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& temporary_path() const { return temporary_path_; }

  /// Fsyncs what was written and renames it into place, over a file of that name; durable on return. Throws
  /// InputOutputError.
  void publish();

 private:
  std::string path_;
  std::string temporary_path_;
  bool is_published_ = false;
};

/// Replaces or creates a file with this content. Throws InputOutputError.
void write_file_atomically(const std::string& path, std::string_view content);

}  // namespace plumb
