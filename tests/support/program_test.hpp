// What the end-to-end tests share: a directory of their own, a tiny model in it, rows, and what must hold of every run
// that is refused.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/run_program.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb::test {

/// Option to value, without dashes; a value with spaces is several.
using Options = std::map<std::string, std::string>;

class ProgramTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = new TemporaryDirectory;
    const RunResult made = run_plumb(0,
                                     {"init", "--output_dir", "model", "--hidden_size", "32", "--num_layers", "2",
                                      "--num_heads", "4", "--num_kv_heads", "2", "--max_position_embeddings", "256"},
                                     {.working_directory = shared_->path()});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() {
    delete shared_;
    shared_ = nullptr;
  }

  void SetUp() override {
    ASSERT_NE(shared_, nullptr);
    std::filesystem::copy(*shared_ / "model", directory_ / "model");
    directory_.write("rows.jsonl", rows(48));
    directory_.write("pairs.jsonl", pairs(48));
  }

  /// Rows of different lengths, the same for every call.
  static std::string rows(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const nlohmann::json row = {{"prompt", "What is " + std::to_string(i * i) + " and one?"},
                                  {"completion", " It is " + std::to_string(i * i + 1) + std::string(i % 5, '!')}};
      text += row.dump() + "\n";
    }
    return text;
  }

  /// Pairs of different lengths, the same for every call.
  static std::string pairs(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const nlohmann::json row = {{"prompt", "What is " + std::to_string(i * i) + " and one?"},
                                  {"chosen", " It is " + std::to_string(i * i + 1) + std::string(i % 5, '!')},
                                  {"rejected", " " + std::to_string(7 * i) + std::string(i % 3, '?')}};
      text += row.dump() + "\n";
    }
    return text;
  }

  /// Relative paths are in the test's directory. 0 ranks: without mpirun.
  RunResult run(int num_ranks, const std::vector<std::string>& arguments, RunOptions options = {}) const {
    options.working_directory = directory_.path();
    return run_plumb(num_ranks, arguments, std::move(options));
  }

  /// A stage's command with these options, for two steps on model and rows.jsonl or pairs.jsonl into out unless they
  /// say otherwise.
  RunResult train(const std::string& stage, int num_ranks, const Options& options = {},
                  const RunOptions& run_options = {}) const {
    Options all = {{"model", "model"},    {"data", stage == "sft" ? "rows.jsonl" : "pairs.jsonl"},
                   {"output_dir", "out"}, {"threads", "1"},
                   {"max_steps", "2"},    {"logging_steps", "1"}};
    for (const auto& [name, value] : options) all[name] = value;
    return run(num_ranks, command_line(stage, all), run_options);
  }
  RunResult sft(int num_ranks, const Options& options = {}, const RunOptions& run_options = {}) const {
    return train("sft", num_ranks, options, run_options);
  }

  static std::vector<std::string> command_line(const std::string& command, const Options& options) {
    std::vector<std::string> arguments = {command};
    for (const auto& [name, value] : options) {
      arguments.push_back("--" + name);
      std::istringstream words(value);
      for (std::string word; words >> word;) arguments.push_back(word);
    }
    return arguments;
  }

  bool exists(const std::string& name) const { return std::filesystem::exists(directory_ / name); }

  /// The lines of output_dir/metrics.jsonl that have this key.
  std::vector<nlohmann::json> metrics(const std::string& key, const std::string& output_dir = "out") const {
    std::vector<nlohmann::json> lines;
    for (const std::string& line : lines_with(directory_.read(output_dir + "/metrics.jsonl"), "\"" + key + "\""))
      lines.push_back(nlohmann::json::parse(line));
    return lines;
  }

  /// Names below the directory of what only a run under way may have. Open MPI may still be clearing its own folder
  /// there, under which a walk breaks off: then it starts again.
  std::vector<std::string> unfinished_files() const {
    for (int tries = 0;; ++tries) {
      std::vector<std::string> names;
      try {
        for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path())) {
          const std::string name = entry.path().filename().string();
          if (name.find(".tmp-") != std::string::npos || name.starts_with("plumb-"))
            names.push_back(entry.path().string());
        }
        return names;
      } catch (const std::filesystem::filesystem_error&) {
        if (tries == 100) throw;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    }
  }

  /// The run ended by itself with this code and one message that holds all parts, and left nothing half-written.
  void expect_refused(const RunResult& result, int exit_code, const std::vector<std::string>& parts) const {
    EXPECT_FALSE(result.has_timed_out);
    EXPECT_EQ(result.exit_code, exit_code) << result.err << result.launcher;
    const std::vector<std::string> errors = lines_with(result.err, "error: ");
    EXPECT_EQ(errors.size(), 1u) << result.err;
    for (const std::string& part : parts)
      EXPECT_TRUE(!errors.empty() && errors[0].find(part) != std::string::npos)
          << "expected \"" << part << "\" in: " << result.err;
    EXPECT_FALSE(exists("out/model"));
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
  }

  const TemporaryDirectory directory_;

 private:
  static inline TemporaryDirectory* shared_ = nullptr;
};

}  // namespace plumb::test
