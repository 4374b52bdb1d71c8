// Base of the end-to-end tests: a directory for each test, with a tiny model, rows and pairs in it, and the checks that
// hold for every refused run.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/rows.hpp"
#include "tests/support/run_program.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb::test {

/// Option to value, without dashes; a value with spaces is several.
using Options = std::map<std::string, std::string>;

class ProgramTest : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;

  /// Relative paths are in the test's directory. 0 ranks: without mpirun.
  RunResult run(int num_ranks, const std::vector<std::string>& arguments, RunOptions options = {}) const;

  /// The command of a stage with these options. By default: two steps, on model and rows.jsonl or pairs.jsonl, into
  /// out.
  RunResult train(const std::string& stage, int num_ranks, const Options& options = {},
                  const RunOptions& run_options = {}) const;
  RunResult sft(int num_ranks, const Options& options = {}, const RunOptions& run_options = {}) const {
    return train("sft", num_ranks, options, run_options);
  }

  static std::vector<std::string> command_line(const std::string& command, const Options& options);

  bool exists(const std::string& name) const;

  /// The lines of output_dir/metrics.jsonl that have this key.
  std::vector<nlohmann::json> metrics(const std::string& key, const std::string& output_dir = "out") const;

  /// Names below the directory that only a running program may have.
  std::vector<std::string> unfinished_files() const;

  /// The run ended by itself with this code and one error that contains all parts, and left nothing half-written.
  void expect_refused(const RunResult& result, int exit_code, const std::vector<std::string>& parts) const;

  const TemporaryDirectory directory_;

 private:
  static inline TemporaryDirectory* shared_ = nullptr;
};

}  // namespace plumb::test
