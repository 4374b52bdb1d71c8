// Path of the reference records: PLUMB_REFERENCE, or ../shared/reference beside the source tree.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace plumb::test {

inline std::string reference_directory() {
  const char* named = std::getenv("PLUMB_REFERENCE");
  return named ? named : std::string(PLUMB_SOURCE_DIR) + "/../shared/reference";
}

inline bool has_reference_records() { return std::filesystem::is_directory(reference_directory()); }

/// True if the records must be present: their folder is given by PLUMB_REFERENCE, or ../shared exists. An empty
/// PLUMB_REFERENCE means a run without records.
inline bool expects_reference_records() {
  const char* named = std::getenv("PLUMB_REFERENCE");
  return named ? *named != '\0' : std::filesystem::is_directory(std::string(PLUMB_SOURCE_DIR) + "/../shared");
}

}  // namespace plumb::test
