#include "io/file/atomic_directory.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <system_error>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace fs = std::filesystem;

namespace {

std::string without_trailing_slashes(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

bool has_content(const std::string& directory) {
  std::error_code error;
  const bool is_empty = fs::is_empty(directory, error);
  return !error && !is_empty;
}

void check_target(const std::string& directory, ExistingDirectory existing) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(directory, error))) return;
  if (existing == ExistingDirectory::kReplaceAnything) {  // the name is not the user's
    if (is_directory(directory)) return;
    throw_error<InputOutputError>("{}: expected a directory or nothing, got a file", directory);
  }
  if (!is_directory(directory)) throw_error<UsageError>("{}: expected a directory to write to, got a file", directory);
  if (!has_content(directory)) return;
  if (existing == ExistingDirectory::kRefuse)
    throw_error<UsageError>("{}: expected a new or empty directory to write to, got one with files in it", directory);
  // the user may have named a directory by mistake
  if (!is_regular_file(join_path(directory, "config.json")) &&
      !is_regular_file(join_path(directory, "adapter_config.json")))
    throw_error<UsageError>(
        "{}: expected a model directory to replace, got files without config.json or adapter_config.json", directory);
}

void remove_all_quietly(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

/// Where a directory goes that is replaced or removed.
std::string old_path_of(const std::string& directory) { return directory + ".tmp-old"; }

}  // namespace

AtomicDirectory::AtomicDirectory(const std::string& directory, ExistingDirectory existing)
    : path_(without_trailing_slashes(directory)), temporary_path_(temporary_path_of(path_)), existing_(existing) {
  check_target(path_, existing_);
  std::error_code error;
  fs::create_directories(parent_path(path_), error);
  if (error) throw_error<InputOutputError>("{}: cannot create: {}", parent_path(path_), error.message());
  remove_all_quietly(temporary_path_);  // of a killed process of the same number
  if (::mkdir(temporary_path_.c_str(), 0777) != 0) throw_errno(temporary_path_, "create");
}

AtomicDirectory::~AtomicDirectory() { remove_all_quietly(temporary_path_); }

void AtomicDirectory::publish() {
  check_target(path_, existing_);
  sync_directory(temporary_path_);
  if (!has_content(path_)) {
    rename_path(temporary_path_, path_);
  } else if (!exchange_paths(temporary_path_, path_)) {
    remove_all_quietly(old_path_of(path_));
    rename_path(path_, old_path_of(path_));
    rename_path(temporary_path_, path_);
  }
  sync_directory(parent_path(path_));
  remove_all_quietly(temporary_path_);  // after an exchange, what was replaced
  remove_all_quietly(old_path_of(path_));
}

void remove_atomically(const std::string& directory) {
  const std::string old = old_path_of(without_trailing_slashes(directory));
  remove_all_quietly(old);
  rename_path(directory, old);
  remove_all_quietly(old);
}

void remove_temporary(const std::string& path) noexcept {
  const size_t slash = path.rfind('/'), mark = path.rfind(".tmp-");
  if (mark == std::string::npos || (slash != std::string::npos && mark < slash)) return;
  remove_all_quietly(path);
}

}  // namespace plumb
