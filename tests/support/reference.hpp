// Reference records: results of transformers, tokenizers, PEFT and TRL for the same inputs. If their folder exists,
// every record that a test names must be in it; a test is skipped only if the folder is missing.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/reference_directory.hpp"

#ifndef PLUMB_IS_REFERENCE_TEST
#error "declare this test with REFERENCE in its CMakeLists.txt, so that ctest knows that it reads reference records"
#endif

namespace plumb::test {

inline std::string reference_file(const std::string& name) { return reference_directory() + "/" + name; }

/// Throws std::runtime_error if there is no such record.
inline std::string reference_text(const std::string& name) {
  std::ifstream file(reference_file(name), std::ios::binary);
  if (!file) throw std::runtime_error(reference_file(name) + ": cannot open this reference record");
  return {std::istreambuf_iterator<char>(file), {}};
}
inline nlohmann::json reference_json(const std::string& name) { return nlohmann::json::parse(reference_text(name)); }

}  // namespace plumb::test

#define SKIP_WITHOUT_REFERENCE_RECORDS()     \
  if (!plumb::test::has_reference_records()) \
  GTEST_SKIP() << "no reference records in " << plumb::test::reference_directory()
