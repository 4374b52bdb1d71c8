// Where the reference records lie: PLUMB_REFERENCE, or ../shared/reference beside the source tree.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb::test {

inline std::string reference_directory() {
  const char* named = std::getenv("PLUMB_REFERENCE");
  return named ? named : std::string(PLUMB_SOURCE_DIR) + "/../shared/reference";
}
inline bool has_reference() { return std::filesystem::is_directory(reference_directory()); }
inline std::string reference_file(const std::string& name) { return reference_directory() + "/" + name; }
inline nlohmann::json reference_json(const std::string& name) {
  std::ifstream file(reference_file(name));
  return nlohmann::json::parse(file);
}

}  // namespace plumb::test

#define PLUMB_NEEDS_REFERENCE() \
  if (!plumb::test::has_reference()) GTEST_SKIP() << "no reference records at " << plumb::test::reference_directory()
