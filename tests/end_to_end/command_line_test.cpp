// The command line of the real program: commands, options, INI files, and the messages for errors in them.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

class CommandLine : public ProgramTest {
 protected:
  /// Expects a refusal before anything else, even before the output directory is created.
  void expect_usage_error(const RunResult& result, const std::vector<std::string>& parts) const {
    expect_refused(result, 2, parts);
    EXPECT_FALSE(exists("out"));
    EXPECT_EQ(result.out, "");
  }

  /// Every command, as `plumb --help` lists them: two spaces, the name, its help.
  std::vector<std::string> commands() const {
    std::vector<std::string> names;
    for (const std::string& line : lines_with(run(0, {"--help"}).out, "  "))
      if (line.starts_with("  ") && line[2] != ' ') names.push_back(line.substr(2, line.find(' ', 2) - 2));
    EXPECT_GE(names.size(), 17u);
    return names;
  }
};

TEST_F(CommandLine, HelpListsTheCommands) {
  const RunResult result = run(0, {"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out.find("usage: "), 0u);
  const std::vector<std::string> names = commands();
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size()) << "each once";
  for (const char* command : {"sft", "reward", "dpo", "pipeline", "merge"})
    EXPECT_EQ(std::count(names.begin(), names.end(), command), 1) << command;
  EXPECT_EQ(run(0, {"-h"}).out, result.out);
  EXPECT_EQ(run(0, {"help"}).out, result.out);
}

TEST_F(CommandLine, VersionIsThatOfTheProject) {
  const RunResult result = run(0, {"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, std::string("plumb ") + PLUMB_VERSION + "\n");
}

TEST_F(CommandLine, NoCommandIsAUsageErrorWithTheHelp) {
  const RunResult result = run(0, {});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, run(0, {"--help"}).out);
}

TEST_F(CommandLine, ManPageAndCompletionAreInstalled) {
  const RunResult result = run_program({PLUMB_CMAKE, "--install", PLUMB_BUILD_DIR, "--component", "documentation",
                                        "--prefix", directory_ / "installed"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(directory_.read("installed/share/man/man1/plumb.1").starts_with(".TH PLUMB 1"));
  EXPECT_NE(directory_.read("installed/share/bash-completion/completions/plumb").find("complete -F _plumb plumb"),
            std::string::npos);
}

TEST_F(CommandLine, OutputThatCannotBeWrittenIsAnError) {
  const RunResult result = run_program({"sh", "-c", PLUMB_PROGRAM " --help >/dev/full"});
  EXPECT_EQ(result.exit_code, 74);
  EXPECT_NE(result.err.find("standard output: "), std::string::npos) << result.err;
}

TEST_F(CommandLine, HelpOfACommandShowsDefaults) {
  for (const std::string& command : commands()) {
    const RunResult result = run(0, {command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command << result.err;
    EXPECT_NE(result.out.find("usage: plumb " + command), std::string::npos) << result.out;
    if (command == "sft") {
      EXPECT_EQ(lines_with(result.out, "--learning_rate NUMBER").size(), 1u) << result.out;
    }
  }
}

TEST_F(CommandLine, UnknownCommandSuggestsTheNearest) {
  expect_usage_error(run(0, {"sfy"}), {"unknown command sfy", "did you mean sft?"});
  expect_usage_error(run(0, {"evalute"}), {"unknown command evalute", "did you mean evaluate?"});
  const RunResult far = run(0, {"zzzzzzzzzz"});
  expect_usage_error(far, {"unknown command zzzzzzzzzz", "plumb --help"});
  EXPECT_EQ(far.err.find("did you mean"), std::string::npos);
}

TEST_F(CommandLine, UnknownOptionSuggestsTheNearest) {
  expect_usage_error(sft(0, {{"learning_rat", "1"}}),
                     {"unknown option --learning_rat", "did you mean --learning_rate?"});
  expect_usage_error(sft(0, {{"num-train-epoch", "1"}}), {"did you mean --num_train_epochs?"});
}

TEST_F(CommandLine, UsageErrorsOnSeveralRanksAreLoggedOnce) {
  expect_usage_error(run(3, {"sfy"}), {"unknown command sfy"});
  expect_usage_error(sft(3, {{"modle", "model"}}), {"unknown option --modle", "did you mean --model?"});
  expect_usage_error(sft(3, {{"loss_type", "nil"}}), {"--loss_type nil", "did you mean nll?"});
}

TEST_F(CommandLine, RequiredOptionsAreNamed) {
  expect_usage_error(run(0, {"sft", "--model", "model", "--output_dir", "out"}), {"--data is required", "usage: "});
  expect_usage_error(run(0, {"sft", "--data", "rows.jsonl", "--output_dir", "out"}), {"--model is required"});
  expect_usage_error(run(0, {"sft", "--model", "model", "--data", "rows.jsonl"}), {"--output_dir is required"});
  expect_usage_error(run(0, {"evaluate", "--model", "model"}), {"--data is required"});
}

TEST_F(CommandLine, ValuesOfTheWrongTypeNameTheOption) {
  expect_usage_error(sft(0, {{"max_steps", "many"}}), {"'many'", "--max_steps"});
  expect_usage_error(sft(0, {{"learning_rate", "50%"}}), {"'50%'", "--learning_rate"});
  expect_usage_error(sft(0, {{"dtype", "bf16"}}), {"--dtype bf16: expected one of float32, bfloat16"});
  expect_usage_error(run(0, {"sft", "--model"}), {"--model"});
  expect_usage_error(run(0, {"sft", "stray"}), {"an argument without an option"});
}

TEST_F(CommandLine, DashesStandForUnderscores) {
  const RunResult result = run(0, {"sft", "--model=model", "--data", "rows.jsonl", "--output-dir", "out",
                                   "--max-steps=1", "--per-device-train-batch-size", "4", "--threads", "1"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(directory_.read("out/run.json"))["options"]["per_device_train_batch_size"], "4");
}

TEST_F(CommandLine, FewerThreadsThanRequestedAreLoggedAndUsed) {
  RunOptions limited;
  limited.environment = {{"OMP_THREAD_LIMIT", "1"}};
  const RunResult result = sft(0, {{"threads", "2"}, {"dtype", "bfloat16"}}, limited);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(lines_with(result.err, "OpenMP provides 1 of 2 threads").size(), 1u) << result.err;
  const std::string model = directory_.read("out/model/model.safetensors");
  ASSERT_EQ(sft(0, {{"threads", "1"}, {"dtype", "bfloat16"}, {"overwrite_output_dir", "true"}}).exit_code, 0);
  EXPECT_EQ(directory_.read("out/model/model.safetensors"), model);
}

TEST_F(CommandLine, ConfigFileIsOverriddenByCommandLine) {
  directory_.write("run.ini",
                   "# a comment\nmodel = model\ndata = rows.jsonl\nthreads = 1\nlearning_rate = 0.001\nmax_steps = 7\n"
                   "logging_steps=1\nshuffle = false\n");
  const RunResult from_file = run(0, {"sft", "--config", "run.ini", "--output_dir", "file", "--max_steps", "2"});
  ASSERT_EQ(from_file.exit_code, 0) << from_file.err;
  ASSERT_EQ(sft(0, {{"learning_rate", "0.001"}, {"shuffle", "false"}}).exit_code, 0);
  auto expected = nlohmann::json::parse(directory_.read("out/run.json"))["options"];
  expected["output_dir"] = "file";
  EXPECT_EQ(nlohmann::json::parse(directory_.read("file/run.json"))["options"], expected);
  EXPECT_EQ(metrics("loss", "file").size(), 2u);
  EXPECT_EQ(directory_.read("file/model/model.safetensors"), directory_.read("out/model/model.safetensors"));
}

TEST_F(CommandLine, ConfigFileIsCheckedLikeTheCommandLine) {
  directory_.write("unknown.ini", "modle = model\n");
  expect_usage_error(sft(0, {{"config", "unknown.ini"}}), {"unknown option --modle", "did you mean --model?"});
  directory_.write("value.ini", "logging_step = 1\n");
  expect_usage_error(sft(0, {{"config", "value.ini"}}), {"did you mean --logging_steps?"});
  directory_.write("type.ini", "seed = many\n");
  expect_usage_error(sft(0, {{"config", "type.ini"}}), {"'many'", "seed"});
  expect_usage_error(sft(0, {{"config", "absent.ini"}}), {"--config absent.ini", "cannot be read"});
}

TEST_F(CommandLine, CommandsOfOneProcessRefuseSeveralRanks) {
  expect_usage_error(run(2, {"init", "--output_dir", "out"}), {"plumb init: expected one rank, got 2"});
}

TEST_F(CommandLine, TokenizeReadsStandardInput) {
  const RunResult result = run(0, {"tokenize", "--model", "model"}, {.standard_input = "{\"text\":\"hi hi\"}\n"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["ids"].size(), 5u);  // the tokenizer of plumb init has one token per byte
}

}  // namespace
}  // namespace plumb::test
