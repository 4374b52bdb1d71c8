#include "io/run/process_memory.hpp"

#include <fstream>
#include <string>

namespace plumb {

static int64_t kilobytes_after(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    int64_t value = 0;
    if (word == key && file >> value) return value * 1024;
  }
  return 0;
}

int64_t proportional_set_bytes() { return kilobytes_after("/proc/self/smaps_rollup", "Pss:"); }

int64_t expected_set_bytes(int num_processes) {
  const int64_t own_bytes = kilobytes_after("/proc/self/smaps_rollup", "Private_Dirty:");
  return own_bytes + (proportional_set_bytes() - own_bytes) / num_processes;
}

std::vector<std::string> mapped_files_in(const std::string& directory) {
  std::vector<std::string> paths;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find('/');
    if (path == std::string::npos || line.compare(path, directory.size() + 1, directory + "/") != 0) continue;
    if (paths.empty() || paths.back() != line.substr(path)) paths.push_back(line.substr(path));
  }
  return paths;
}

int64_t available_memory_bytes() { return kilobytes_after("/proc/meminfo", "MemAvailable:"); }

}  // namespace plumb
