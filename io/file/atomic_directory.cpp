#include "io/file/atomic_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"

namespace plumb {

namespace fs = std::filesystem;

namespace {

constexpr const char* kTemporaryMark = ".tmp-";

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
  if (!is_directory(directory)) throw_error<UsageError>("{}: expected a directory to export to, got a file", directory);
  if (!has_content(directory)) return;
  if (existing == ExistingDirectory::kRefuse)
    throw_error<UsageError>("{}: expected a new or empty directory to export to, got one with files in it", directory);
  // never remove what might be somebody's home
  if (!is_regular_file(join_path(directory, "config.json")) &&
      !is_regular_file(join_path(directory, "adapter_config.json")))
    throw_error<UsageError>(
        "{}: expected a model directory to replace, got files without config.json or adapter_config.json", directory);
}

}  // namespace

std::string begin_export(const std::string& directory, ExistingDirectory existing) {
  const std::string final_path = without_trailing_slashes(directory);
  check_target(final_path, existing);
  std::error_code error;
  fs::create_directories(parent_path(final_path), error);
  if (error) throw_error<InputOutputError>("{}: cannot create: {}", parent_path(final_path), error.message());
  std::string temporary = final_path + kTemporaryMark + "XXXXXX";
  if (::mkdtemp(temporary.data()) == nullptr) throw_errno(temporary, "create");
  // mkdtemp grants only the owner; the model gets what mkdir would have given it
  const mode_t mask = ::umask(0);
  ::umask(mask);
  if (::chmod(temporary.c_str(), 0777 & ~mask) != 0) throw_errno(temporary, "set the permissions");
  return temporary;
}

void commit_export(const std::string& temporary, const std::string& directory, ExistingDirectory existing) {
  const std::string final_path = without_trailing_slashes(directory);
  check_target(final_path, existing);
  const std::string parent = parent_path(final_path);
  if (!has_content(final_path)) {
    rename_path(temporary, final_path);
    sync_directory(parent);
    return;
  }
  std::string old = temporary;
  if (!exchange_paths(temporary, final_path)) {
    old = temporary + "-old";
    rename_path(final_path, old);
    rename_path(temporary, final_path);
  }
  sync_directory(parent);
  abandon_export(old);
}

void abandon_export(const std::string& temporary) noexcept {
  const size_t slash = temporary.rfind('/');
  const size_t mark = temporary.rfind(kTemporaryMark);
  if (mark == std::string::npos || (slash != std::string::npos && mark < slash)) return;
  std::error_code ignored;
  fs::remove_all(temporary, ignored);
}

void remove_stale_exports(const std::string& directory) {
  const std::string final_path = without_trailing_slashes(directory);
  const std::string prefix = fs::path(final_path).filename().string() + kTemporaryMark;
  std::error_code error;
  for (fs::directory_iterator entry(parent_path(final_path), error), end; !error && entry != end;
       entry.increment(error))
    if (entry->path().filename().string().starts_with(prefix)) abandon_export(entry->path().string());
}

}  // namespace plumb
