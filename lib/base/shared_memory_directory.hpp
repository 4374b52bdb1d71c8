// Where the files are that the processes of a machine map to share memory.
#pragma once

#include <cstdlib>
#include <string>

namespace plumb {

inline constexpr const char* kSharedMemoryVariable = "PLUMB_SHM_DIR";

/// PLUMB_SHM_DIR, else /dev/shm.
inline std::string shared_memory_directory() {
  const char* const directory = std::getenv(kSharedMemoryVariable);
  return directory && *directory ? directory : "/dev/shm";
}

}  // namespace plumb
