#include "apps/models/cgroups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>

#include "io/file/file.hpp"

namespace plumb {

namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();
constexpr int64_t kNoMemoryLimit = int64_t{1} << 60;  // version 1 has a number of this size instead of "max"

double ratio(const std::string& quota, double period) {
  const double microseconds = std::atof(quota.c_str());  // "max" and -1: no limit
  return microseconds > 0 && period > 0 ? microseconds / period : kNoLimit;
}

double quota_of(const std::string& directory) {
  std::string quota;
  double period = 0;
  if (std::ifstream file(join_path(directory, "cpu.max")); file >> quota >> period) return ratio(quota, period);
  std::ifstream(join_path(directory, "cpu.cfs_quota_us")) >> quota;
  std::ifstream(join_path(directory, "cpu.cfs_period_us")) >> period;
  return ratio(quota, period);
}

/// -1: no such file, or "max".
int64_t number_in(const std::string& directory, const char* file) {
  int64_t number = -1;
  if (std::ifstream stream(join_path(directory, file)); !(stream >> number)) return -1;
  return number;
}

int64_t statistic_in(const std::string& directory, const std::string& name) {
  std::ifstream file(join_path(directory, "memory.stat"));
  int64_t value = 0;
  for (std::string word; file >> word >> value;)
    if (word == name) return value;
  return 0;
}

}  // namespace

std::string own_cgroups() {
  std::ostringstream text;
  text << std::ifstream("/proc/self/cgroup").rdbuf();
  return text.str();
}

std::vector<std::string> cgroup_directories(std::string_view cgroups, std::string_view controller,
                                            const std::string& root) {
  std::vector<std::string> directories;
  std::istringstream lines{std::string(cgroups)};
  for (std::string line; std::getline(lines, line);) {  // NUMBER:CONTROLLERS:PATH
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    std::vector<std::string> tops;
    if (controllers.empty()) tops = {root, root + "/unified"};
    if (fmt::format(",{},", controllers).find(fmt::format(",{},", controller)) != std::string::npos)
      tops = {join_path(root, controllers), join_path(root, controller)};
    for (const std::string& top : tops) {
      std::string below = path;
      if (path == "/") below.clear();
      directories.push_back(top + below);
      for (size_t slash; (slash = below.rfind('/')) != std::string::npos;) {
        below.resize(slash);
        directories.push_back(top + below);
      }
    }
  }
  return directories;
}

double cpu_quota(std::string_view cgroups, const std::string& root) {
  double least = kNoLimit;
  for (const std::string& directory : cgroup_directories(cgroups, "cpu", root))
    least = std::min(least, quota_of(directory));
  return least;
}

int64_t cgroup_memory_left(std::string_view cgroups, const std::string& root) {
  int64_t least = -1;
  for (const std::string& directory : cgroup_directories(cgroups, "memory", root)) {
    const bool is_second = is_regular_file(join_path(directory, "memory.max"));
    const int64_t limit = number_in(directory, is_second ? "memory.max" : "memory.limit_in_bytes");
    if (limit < 0 || limit >= kNoMemoryLimit) continue;
    const int64_t used = number_in(directory, is_second ? "memory.current" : "memory.usage_in_bytes") -
                         statistic_in(directory, is_second ? "inactive_file" : "total_inactive_file");
    const int64_t left = std::max<int64_t>(0, limit - used);
    least = least < 0 ? left : std::min(least, left);
  }
  return least;
}

}  // namespace plumb
