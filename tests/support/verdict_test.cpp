// A skipped test has not passed, and a test whose reference records are present may not be skipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/run_program.hpp"
#include "tests/support/temporary_directory.hpp"
#include "tests/support/verdict.hpp"

namespace plumb::test {
namespace {

class Verdict : public testing::Test {
 protected:
  void SetUp() override { records_.write("record.txt", "recorded"); }

  /// The exit code of the sample program when it runs these of its tests. reference: folder of the records, empty for a
  /// run without records.
  static int exit_code_of(const std::string& tests, const std::string& reference, bool is_reference_test = true) {
    RunOptions options;
    options.environment = {{"PLUMB_REFERENCE", reference}, {"GTEST_FILTER", "VerdictSample." + tests}};
    if (is_reference_test) options.environment["PLUMB_IS_REFERENCE_TEST"] = "1";
    return run_program({PLUMB_VERDICT_SAMPLE}, options).exit_code;
  }

  const TemporaryDirectory records_;
};

TEST_F(Verdict, MissingRecordsMeanSkippedNotPassed) {
  EXPECT_EQ(exit_code_of("ReadsARecord", ""), kSkipped);
  EXPECT_EQ(exit_code_of("ReadsARecord", records_.path()), kPassed);
}

TEST_F(Verdict, WhereRecordsAreExpectedASkipFails) {
  EXPECT_EQ(exit_code_of("ReadsARecord", records_ / "absent"), kFailed);
  EXPECT_EQ(exit_code_of("ReadsARecord:VerdictSample.Skips", records_.path()), kFailed);
}

TEST_F(Verdict, ARecordThatIsMissingFails) {
  std::filesystem::remove(records_ / "record.txt");
  EXPECT_EQ(exit_code_of("ReadsARecord", records_.path()), kFailed);
}

TEST_F(Verdict, AFailureIsNotHiddenByASkip) {
  EXPECT_EQ(exit_code_of("Skips:VerdictSample.Fails", ""), kFailed);
  EXPECT_EQ(exit_code_of("Skips:VerdictSample.Passes", "", false), kSkipped);
  EXPECT_EQ(exit_code_of("Passes", "", false), kPassed);
}

/// All entries of this build's ctest, by name.
std::map<std::string, nlohmann::json> ctest_entries() {
  const RunResult shown = run_program({PLUMB_CTEST, "--test-dir", PLUMB_BUILD_DIR, "--show-only=json-v1"});
  EXPECT_EQ(shown.exit_code, 0) << shown.err;
  const nlohmann::json list = nlohmann::json::parse(shown.out);
  std::map<std::string, nlohmann::json> entries;
  for (const nlohmann::json& test : list.at("tests")) {
    nlohmann::json properties = nlohmann::json::object();
    for (const nlohmann::json& property : test.value("properties", nlohmann::json::array()))
      properties[property.at("name").get<std::string>()] = property.at("value");
    entries[test.at("name")] = properties;
  }
  return entries;
}

TEST_F(Verdict, CtestTakesTheExitCodeOfEveryTestProgram) {
  int num_programs = 0, num_reference_tests = 0;
  for (auto& [name, properties] : ctest_entries()) {
    if (name.starts_with("style.") || name.starts_with("slurm.") || name.starts_with("fuzz.")) continue;
    EXPECT_EQ(properties.value("SKIP_RETURN_CODE", 0), kSkipped) << name;
    const std::string environment = properties["ENVIRONMENT"].dump(), labels = properties["LABELS"].dump();
    const bool is_reference_test = environment.find("PLUMB_IS_REFERENCE_TEST=1") != std::string::npos;
    EXPECT_EQ(labels.find("\"reference\"") != std::string::npos, is_reference_test) << name;
    ++num_programs;
    num_reference_tests += is_reference_test ? 1 : 0;
  }
  EXPECT_GE(num_programs, 100);
  EXPECT_GE(num_reference_tests, 18);
}

/// The contents of all CMakeLists.txt below `root`.
std::string cmake_lists(const std::string& root) {
  std::string contents;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "CMakeLists.txt") continue;
    std::ifstream file(entry.path());
    contents.append(std::istreambuf_iterator<char>(file), {});
  }
  return contents;
}

TEST_F(Verdict, CtestRunsEveryTestFile) {
  const std::string root = PLUMB_SOURCE_DIR "/tests/";
  const std::map<std::string, nlohmann::json> entries = ctest_entries();
  const std::string lists = cmake_lists(root);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    std::string name = entry.path().string().substr(root.size());
    if (!name.ends_with("_test.cpp")) continue;
    if (std::filesystem::exists(std::filesystem::path(entry.path()).replace_extension(".hpp")))
      continue;  // a base class
    const std::string file = entry.path().filename();
    const auto names_in_full = [&](const char* before) { return lists.find(before + file) != std::string::npos; };
    if (names_in_full(" ") || names_in_full("/")) continue;  // another source of a program
    name.resize(name.size() - std::string("_test.cpp").size());
    std::replace(name.begin(), name.end(), '/', '.');
    // of X_test.cpp and X_absent_test.cpp CMake takes one, as it does of X.cpp and X_absent.cpp
    const std::string absent = "_absent";
    const std::string other = name.ends_with(absent) ? name.substr(0, name.size() - absent.size()) : name + absent;
    const auto is_of_file = [&](const auto& test) {
      return test.first == name || test.first.starts_with(name + ".") || test.first == other;
    };
    EXPECT_TRUE(std::any_of(entries.begin(), entries.end(), is_of_file)) << name << ": not in any CMakeLists.txt";
  }
}

}  // namespace
}  // namespace plumb::test
