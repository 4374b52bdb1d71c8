// Base of the end-to-end tests: a directory per test with a tiny model, rows and pairs, and the checks that apply to
// every refused run.
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

/// Values by option name without dashes. A value with spaces is passed as several arguments.
using Options = std::map<std::string, std::string>;

class ProgramTest : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;

  /// Runs plumb in the test's directory. num_ranks = 0: without mpirun.
  RunResult run(int num_ranks, const std::vector<std::string>& arguments, RunOptions options = {}) const;

  /// Runs the command of a stage with these options. By default: two steps, on model and rows.jsonl or pairs.jsonl,
  /// with output in out.
  RunResult train(const std::string& stage, int num_ranks, const Options& options = {},
                  const RunOptions& run_options = {}) const;
  RunResult sft(int num_ranks, const Options& options = {}, const RunOptions& run_options = {}) const {
    return train("sft", num_ranks, options, run_options);
  }

  /// The arguments of a command with these options.
  static std::vector<std::string> command_line(const std::string& command, const Options& options);

  bool exists(const std::string& name) const;

  /// The lines of output_dir/metrics.jsonl that have this key.
  std::vector<nlohmann::json> metrics(const std::string& key, const std::string& output_dir = "out") const;

  /// Temporary files in the directory, which may exist only while a program runs.
  std::vector<std::string> unfinished_files() const;

  /// Expects that the run exited with this code and one error that contains all parts, and left no partial output.
  void expect_refused(const RunResult& result, int exit_code, const std::vector<std::string>& parts) const;

  const TemporaryDirectory directory_;

 private:
  static inline TemporaryDirectory* shared_ = nullptr;
};

}  // namespace plumb::test
