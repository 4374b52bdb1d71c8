#include "tests/support/program_test.hpp"

#include <chrono>
#include <filesystem>
#include <sstream>
#include <thread>

namespace plumb::test {

namespace fs = std::filesystem;

void ProgramTest::SetUpTestSuite() {
  shared_ = new TemporaryDirectory;
  const RunResult made = make_tiny_model(shared_->path());
  ASSERT_EQ(made.exit_code, 0) << made.err;
}

void ProgramTest::TearDownTestSuite() {
  delete shared_;
  shared_ = nullptr;
}

void ProgramTest::SetUp() {
  ASSERT_NE(shared_, nullptr);
  fs::copy(*shared_ / "model", directory_ / "model");
  directory_.write("rows.jsonl", rows(48));
  directory_.write("pairs.jsonl", pairs(48));
}

RunResult ProgramTest::run(int num_ranks, const std::vector<std::string>& arguments, RunOptions options) const {
  options.working_directory = directory_.path();
  return run_plumb(num_ranks, arguments, std::move(options));
}

RunResult ProgramTest::train(const std::string& stage, int num_ranks, const Options& options,
                             const RunOptions& run_options) const {
  Options all = {{"model", "model"},    {"data", stage == "sft" ? "rows.jsonl" : "pairs.jsonl"},
                 {"output_dir", "out"}, {"threads", "1"},
                 {"max_steps", "2"},    {"logging_steps", "1"}};
  for (const auto& [name, value] : options) all[name] = value;
  return run(num_ranks, command_line(stage, all), run_options);
}

std::vector<std::string> ProgramTest::command_line(const std::string& command, const Options& options) {
  std::vector<std::string> arguments = {command};
  for (const auto& [name, value] : options) {
    arguments.push_back("--" + name);
    std::istringstream words(value);
    for (std::string word; words >> word;) arguments.push_back(word);
  }
  return arguments;
}

bool ProgramTest::exists(const std::string& name) const { return fs::exists(directory_ / name); }

std::vector<nlohmann::json> ProgramTest::metrics(const std::string& key, const std::string& output_dir) const {
  std::vector<nlohmann::json> lines;
  for (const std::string& line : lines_with(directory_.read(output_dir + "/metrics.jsonl"), "\"" + key + "\""))
    lines.push_back(nlohmann::json::parse(line));
  return lines;
}

std::vector<std::string> ProgramTest::unfinished_files() const {
  // Open MPI may still be removing its own folder there, which interrupts the iteration: repeat it.
  for (int tries = 0;; ++tries) {
    std::vector<std::string> names;
    try {
      for (const auto& entry : fs::recursive_directory_iterator(directory_.path())) {
        const std::string name = entry.path().filename().string();
        if (name.find(".tmp-") != std::string::npos || name.starts_with("plumb-"))
          names.push_back(entry.path().string());
      }
      return names;
    } catch (const fs::filesystem_error&) {
      if (tries == 100) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

void ProgramTest::expect_refused(const RunResult& result, int exit_code, const std::vector<std::string>& parts) const {
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

}  // namespace plumb::test
