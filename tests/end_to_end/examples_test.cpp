// Every file in apps/examples is run as a user would run it: with the commands in its own comments, in a directory that
// contains the files it names.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/compress.hpp"
#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;

const std::string kFolder = "apps/examples/";

struct Command {
  int num_ranks = 0;  // 0: without mpirun
  std::vector<std::string> arguments;
};

/// The command in a comment line such as "#   mpirun -n 8 plumb sft --config FILE"; no arguments for other lines.
Command parse_command(const std::string& line) {
  Command command;
  std::istringstream words(line);
  std::string word;
  words >> word;
  if (word != "#" || !line.starts_with("#   ")) return command;
  words >> word;
  if (word == "mpirun") {
    words >> word >> command.num_ranks >> word;
    command.num_ranks = std::min(command.num_ranks, 2);
  }
  if (word == "plumb")
    while (words >> word) command.arguments.push_back(word);
  return command;
}

class Examples : public ProgramTest {
 protected:
  void SetUp() override {
    ProgramTest::SetUp();
    directory_.write("instructions.jsonl", rows(48));
    directory_.write("instructions_heldout.jsonl", rows(6));
    directory_.write("pairs_heldout.jsonl", pairs(6));
    fs::create_directories(directory_ / "web");
    for (const char* name : {"web/1.jsonl.gz", "web/2.jsonl.gz"}) directory_.write(name, gzip(rows(9)));
    fs::create_directories(directory_ / "apps");
    fs::copy(fs::path(PLUMB_SOURCE_DIR) / kFolder, directory_ / kFolder);
  }

  /// Runs the commands of an example, with two steps for each stage.
  void run_example(const std::string& name) const {
    const std::string text = directory_.read(kFolder + name);
    directory_.write(kFolder + name, "max_steps = 2\nthreads = 1\n" + text);
    std::istringstream lines(text);
    int num_commands = 0;
    for (std::string line; std::getline(lines, line);) {
      const Command command = parse_command(line);
      if (command.arguments.empty()) continue;
      ++num_commands;
      const RunResult result = run(command.num_ranks, command.arguments);
      EXPECT_EQ(result.exit_code, 0) << line << "\n" << result.err << result.launcher;
    }
    EXPECT_GE(num_commands, 1) << name << ": expected a command in its comments";
  }
};

TEST_F(Examples, EachRunsByTheCommandsInItsComments) {
  int num_examples = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(PLUMB_SOURCE_DIR) / kFolder)) {
    const std::string name = entry.path().filename().string();
    SCOPED_TRACE(name);
    run_example(name);
    ++num_examples;
  }
  EXPECT_EQ(num_examples, 8);
  for (const char* made :
       {"sft/model/model.safetensors", "lora/adapter/adapter_model.safetensors", "lora/merged/model.safetensors",
        "qlora/adapter/adapter_model.safetensors", "reward/model/model.safetensors", "dpo/model/model.safetensors",
        "pipeline/report.html", "mix/model/model.safetensors"})
    EXPECT_TRUE(exists(std::string("out/") + made)) << made;
  EXPECT_EQ(lines_with(directory_.read("scored.jsonl"), "{").size(), 48u);
  EXPECT_EQ(unfinished_files(), std::vector<std::string>());
}

TEST_F(Examples, TheCommandLineOverridesTheFile) {
  const RunResult result = run(1, {"sft", "--config", kFolder + "sft.ini", "--output_dir", "elsewhere", "--data",
                                   "instructions_heldout.jsonl", "--max_steps", "1", "--threads", "1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto options = nlohmann::json::parse(directory_.read("elsewhere/run.json"))["options"];
  EXPECT_EQ(options["data"], "instructions_heldout.jsonl");
  EXPECT_EQ(options["packing"], "true");
  EXPECT_FALSE(exists("out/sft"));
}

}  // namespace
}  // namespace plumb::test
