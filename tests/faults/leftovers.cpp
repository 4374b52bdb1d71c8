#include "tests/faults/leftovers.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

std::string read_all(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

bool become_root_of_user_namespace() {
  const auto user = ::getuid();
  const auto group = ::getgid();
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  std::ofstream("/proc/self/setgroups") << "deny";
  std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
  std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  return ::geteuid() == 0;
}

}  // namespace

bool enter_own_namespace() {
  if (::unshare(CLONE_NEWNS) != 0 && !become_root_of_user_namespace()) return false;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return ::mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1g") == 0;
}

std::vector<int> processes_with(const std::string& assignment) {
  std::vector<int> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(::getpid())) continue;
    const std::string environment = '\0' + read_all(entry.path() / "environ");
    if (environment.find('\0' + assignment + '\0') != std::string::npos) found.push_back(std::stoi(name));
  }
  return found;
}

bool wait_for_end_of(const std::string& assignment, double timeout_seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_seconds);
  while (!processes_with(assignment).empty()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return true;
}

std::vector<std::string> shared_memory_files() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator("/dev/shm")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("vader_segment.") || name.starts_with("osc_sm.") || name.starts_with("plumb-"))
      names.push_back("/dev/shm/" + name);
  }
  return names;
}

std::vector<std::string> temporary_files(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool is_from_run = name.find(".tmp-") != std::string::npos || name == "job.lock" || name == ".writable";
    const bool is_from_launcher = name.starts_with("pid.") || name.starts_with("plumb-");
    if (is_from_run || is_from_launcher) names.push_back(fs::relative(entry->path(), directory).string());
  }
  return names;
}

}  // namespace plumb::test
