// Leftovers of a job on the machine: processes, shared memory segments, temporary files.
#pragma once

#include <string>
#include <vector>

namespace plumb::test {

/// Enters a new mount namespace, in which /dev/shm is empty and file systems may be mounted. Returns false if the
/// system does not permit it; then /dev/shm is shared with other jobs. Must be called before any thread starts.
bool enter_own_namespace();

/// Processes whose environment contains this assignment, "NAME=value".
std::vector<int> processes_with(const std::string& assignment);
/// Waits until there are no such processes. Returns false if there still are after the timeout.
bool wait_for_end_of(const std::string& assignment, double timeout_seconds);

/// Files of Open MPI in /dev/shm.
std::vector<std::string> shared_memory_files();

/// Temporary files in a run's directory, which may exist only while it runs, and files in its TMPDIR.
std::vector<std::string> temporary_files(const std::string& directory);

}  // namespace plumb::test
