// Leftovers of a job on the machine: processes, shared memory segments, temporary files.
#pragma once

#include <string>
#include <vector>

namespace plumb::test {

/// A mount namespace of this process's own, in which /dev/shm is empty and disks may be mounted. False where the system
/// does not let one: then /dev/shm is everybody's. Before any thread starts.
bool enter_own_namespace();

/// Processes whose environment holds this assignment, "NAME=value".
std::vector<int> processes_with(const std::string& assignment);
/// Waits until there is none, at most so long; whether there is none.
bool wait_for_end_of(const std::string& assignment, double timeout_seconds);

/// Files of Open MPI in /dev/shm.
std::vector<std::string> shared_memory_files();

/// Names below a run's directory that only a run under way may have, and what is in its TMPDIR.
std::vector<std::string> temporary_files(const std::string& directory);

}  // namespace plumb::test
