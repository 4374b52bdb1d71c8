#include "io/records/data_files.hpp"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <utility>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

/// Paths that match, in no order.
std::vector<std::string> match(const std::string& pattern) {
  glob_t found{};
  const int result = ::glob(pattern.c_str(), GLOB_ERR | GLOB_NOSORT, nullptr, &found);
  const int error = errno;
  std::vector<std::string> paths;
  if (result == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  const bool is_nowhere = result == GLOB_ABORTED && (error == ENOENT || error == ENOTDIR);
  if (result == 0 || result == GLOB_NOMATCH || is_nowhere) return paths;
  throw_error<InputOutputError>("{}: cannot list the files that match: {}", pattern, std::strerror(error));
}

}  // namespace

std::vector<std::string> find_data_files(const std::string& item) {
  struct stat status {};
  const bool exists = ::stat(item.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) {
    throw_error<InputOutputError>(
        "{}: expected a file of rows, got a directory; name the files in it that are to be used, as in '{}/train*'",
        item, item);
  }
  if (exists || item.find_first_of("*?[") == std::string::npos) return {item};
  std::vector<std::string> paths = match(item);
  if (paths.empty()) throw_error<InputOutputError>("{}: expected files that match, got none", item);
  std::sort(paths.begin(), paths.end());
  return paths;
}

DataFiles find_data_files(const std::vector<std::string>& items) {
  DataFiles files;
  for (const std::string& item : items) {
    std::vector<std::string> found = find_data_files(item);
    files.files_per_item.push_back(std::ssize(found));
    std::move(found.begin(), found.end(), std::back_inserter(files.paths));
  }
  return files;
}

std::vector<std::pair<std::string, std::string>> find_repeated_files(const std::vector<std::string>& paths) {
  std::map<std::pair<dev_t, ino_t>, std::string> first_paths;
  std::vector<std::pair<std::string, std::string>> repeated;
  for (const std::string& path : paths) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) continue;  // opening it reports why
    const auto [entry, is_new] = first_paths.try_emplace({status.st_dev, status.st_ino}, path);
    if (!is_new) repeated.emplace_back(path, entry->second);
  }
  return repeated;
}

}  // namespace plumb
