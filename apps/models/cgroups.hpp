// The limits of a process's cgroups, which containers and batch systems set, of version 2 and 1. Source: cgroups(7),
// Linux Documentation/admin-guide/cgroup-v2.rst.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

/// The text of /proc/self/cgroup.
std::string own_cgroups();

/// The directories of the cgroups in which `controller` (cpu, memory) limits a process, and of those above. cgroups:
/// the text of its /proc/PID/cgroup; root: where the hierarchies are mounted. Some may not exist: within a container
/// its own path may not, and the top is then its own.
std::vector<std::string> cgroup_directories(std::string_view cgroups, std::string_view controller,
                                            const std::string& root = "/sys/fs/cgroup");

/// The CPUs, in parts of one, that the limits of a process's cgroups are worth; infinity without any.
double cpu_quota(std::string_view cgroups, const std::string& root = "/sys/fs/cgroup");

/// The bytes that its cgroups have left, counting file caches as free; -1 without a limit.
int64_t cgroup_memory_left(std::string_view cgroups, const std::string& root = "/sys/fs/cgroup");

}  // namespace plumb
