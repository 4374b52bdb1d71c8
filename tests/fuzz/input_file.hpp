// The input of a fuzz target as a file, for parsers that read files: overwritten for each input, removed at the end.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace plumb::fuzz {

class InputDirectory {
 public:
  InputDirectory() {
    const bool has_memory = std::filesystem::is_directory("/dev/shm");
    path_ = has_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
    path_ /= "plumb-fuzz-" + std::to_string(::getpid());
    std::filesystem::create_directories(path_);
  }
  ~InputDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  InputDirectory(const InputDirectory&) = delete;
  InputDirectory& operator=(const InputDirectory&) = delete;

  /// Writes the file and returns its path.
  std::string write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path path = path_ / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

 private:
  std::filesystem::path path_;
};

/// The file of this process.
inline const InputDirectory& input_directory() {
  static const InputDirectory directory;
  return directory;
}

}  // namespace plumb::fuzz
