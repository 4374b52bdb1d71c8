// The memory of this process and machine as the kernel counts it. Source: proc(5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace plumb {

/// Proportional set size: shared pages count by their share. 0 if the kernel does not report it.
int64_t proportional_set_bytes();

/// The proportional set size if `num_processes` ran this program on this machine: they share all but private dirty
/// pages.
int64_t expected_set_bytes(int num_processes);

/// The files of a directory that this process has mapped.
std::vector<std::string> mapped_files_in(const std::string& directory);

/// Memory of this machine that is available to programs. 0 if the kernel does not report it.
int64_t available_memory_bytes();

}  // namespace plumb
