// Invalid rows, output directories that cannot be written, and ranks that fail alone: exit code, message, no partial
// output.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

struct BadData {
  const char* name;
  const char* file;
  std::string content;
  int exit_code;
  std::vector<std::string> message;
};

void PrintTo(const BadData& bad, std::ostream* out) { *out << bad.name; }

const std::string kGoodCsv = "prompt,completion\r\na,b\r\nc,\"d\r\ne\"\r\n";
const std::string kGoodJson = "{\"text\":\"a b c\"}\n{\"text\":\"d e f\"}\n";

// the error is in the last row, which on several ranks is in the slice of the last rank
const BadData kBadData[] = {
    {"EmptyFile", "x.csv", "", 65, {"x.csv: expected rows, got an empty file"}},
    {"BlankLines", "x.jsonl", "\n\n", 65, {"x.jsonl: expected rows, got none"}},
    {"HeaderOnly", "x.csv", "prompt,completion\n", 65, {"x.csv: expected rows, got none below the header"}},
    {"RaggedRow",
     "x.csv",
     kGoodCsv + "f,g,h\r\n",
     65,
     {"x.csv:5: row 2: expected 2 fields", "got 3", "must be quoted"}},
    {"UnclosedQuote", "x.csv", kGoodCsv + "f,\"g\r\nh,i\r\n", 65, {"x.csv:5: row 2: expected a closing quote"}},
    {"MissingColumn",
     "x.csv",
     "prompt,completoin\na,b\n",
     65,
     {"x.csv:2: row 0: expected the columns", "got columns: prompt, completoin", "--columns completion=completoin"}},
    {"UnfinishedJson", "x.jsonl", kGoodJson + "{\"text\":\"g\"\n", 65, {"x.jsonl:3: row 2: column 11: expected JSON"}},
    {"NotAnObject", "x.jsonl", kGoodJson + "[1]\n", 65, {"x.jsonl:3: row 2: expected a JSON object", "got array"}},
    {"NumberForText",
     "x.jsonl",
     kGoodJson + "{\"text\":7}\n",
     65,
     {"x.jsonl:3: row 2: column \"text\": expected text"}},
    {"OtherColumns",
     "x.jsonl",
     kGoodJson + "{\"words\":\"g\"}\n",
     65,
     {"x.jsonl:3: row 2: expected a column \"text\" as in the first row", "got columns: words"}},
    {"PreferencePair",
     "x.jsonl",
     R"({"prompt":"a","chosen":"b","rejected":"c"})",
     65,
     {"x.jsonl:1: row 0", "pairs are for reward and dpo"}},
    {"NoTemplate",
     "x.jsonl",
     R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
     2,
     {"x.jsonl:1: row 0", "no chat template", "chatml"}},
    {"UnknownRole",
     "x.jsonl",
     R"({"messages":[{"role":"robot","content":"a"}]})",
     65,
     {"x.jsonl:1: row 0", "message 0: expected a role among system", "got \"robot\""}},
    {"InvalidUtf8",
     "x.jsonl",
     kGoodJson + "{\"text\":\"\xff\"}\n",
     65,
     {"x.jsonl:3: row 2: byte 9: expected UTF-8, got the byte 0xFF"}},
    {"Utf16", "x.csv", "\xff\xfep\0,\0q\0"s, 65, {"x.csv: offset 0: expected UTF-8", "UTF-16"}},
    {"Compressed", "x", "\x1f\x8b\b\0"s, 65, {"x: expected more gzip data", "downloaded completely"}},
    {"UnknownFormat", "x.txt", "some text\n", 65, {"x.txt: expected a name in .csv"}},
    {"NothingToLearn", "x.jsonl", "{\"text\":\"\"}\n", 65, {"expected rows to train on, kept none of 1", "x.jsonl:1"}},
};

class BadDataTest : public ProgramTest, public testing::WithParamInterface<BadData> {};

TEST_P(BadDataTest, IsRefused) {
  const BadData& bad = GetParam();
  directory_.write(bad.file, bad.content);
  expect_refused(sft(0, {{"data", bad.file}}), bad.exit_code, bad.message);
}

INSTANTIATE_TEST_SUITE_P(Cases, BadDataTest, testing::ValuesIn(kBadData),
                         [](const auto& given) { return given.param.name; });

class BadInput : public ProgramTest {
 protected:
  /// False if this process may read every file and cannot drop that privilege; then the test is skipped.
  bool obeys_file_modes() const {
    const std::string closed = directory_.write("closed", "secret");
    fs::permissions(closed, fs::perms::none);
    return run_program({"cat", closed}, {.obeys_permissions = true}).exit_code != 0;
  }
};

TEST_F(BadInput, OneRowOfTheLastRankEndsAllRanks) {
  for (const char* name : {"RaggedRow", "UnfinishedJson"})
    for (const BadData& bad : kBadData) {
      if (bad.name != std::string(name)) continue;
      directory_.write(bad.file, bad.content);
      expect_refused(sft(3, {{"data", bad.file}}), bad.exit_code, bad.message);
    }
}

TEST_F(BadInput, AnErrorOnEveryRankIsLoggedOnce) {
  for (const char* name : {"EmptyFile", "MissingColumn", "NoTemplate"})
    for (const BadData& bad : kBadData) {
      if (bad.name != std::string(name)) continue;
      directory_.write(bad.file, bad.content);
      expect_refused(sft(3, {{"data", bad.file}}), bad.exit_code, bad.message);
    }
}

TEST_F(BadInput, CommandsWithoutAnOutputDirectoryRefuseBadRows) {
  directory_.write("x.csv", kGoodCsv + "f,g,h\r\n");
  for (const int num_ranks : {0, 3})
    expect_refused(run(num_ranks, {"evaluate", "--model", "model", "--data", "x.csv"}), 65, {"x.csv:5: row 2"});
  expect_refused(run(3, {"prepare", "--model", "model", "--data", "x.csv", "--output_dir", "out"}), 65, {"x.csv:5"});
}

TEST_F(BadInput, MissingFileIsAnInputOutputError) {
  const std::string absent = "absent.csv: cannot open: No such file or directory";
  expect_refused(sft(0, {{"data", "absent.csv"}}), 74, {absent});
  expect_refused(sft(3, {{"data", "rows.jsonl absent.csv"}}), 74, {absent});
  expect_refused(sft(0, {{"eval_data", "absent.csv"}}), 74, {absent});
  expect_refused(sft(0, {{"data", "model"}}), 74, {"model: expected a file of rows, got a directory"});
  ASSERT_EQ(::mkfifo((directory_ / "pipe.csv").c_str(), 0600), 0);
  expect_refused(sft(0, {{"data", "pipe.csv"}}), 74, {"pipe.csv: expected a regular file, got a special file"});
}

TEST_F(BadInput, UnreadableFileIsAnInputOutputError) {
  if (!obeys_file_modes()) GTEST_SKIP() << "this process may read every file";
  fs::permissions(directory_ / "rows.jsonl", fs::perms::none);
  expect_refused(sft(0, {}, {.obeys_permissions = true}), 74, {"rows.jsonl: cannot open: Permission denied"});
}

TEST_F(BadInput, OutputDirectoryCannotBeCreated) {
  directory_.write("out", "in its place");
  for (const int num_ranks : {0, 3}) expect_refused(sft(num_ranks), 74, {"--output_dir out: cannot be created"});
  expect_refused(sft(0, {{"output_dir", "out/run"}}), 74, {"--output_dir out/run: cannot be created"});
  EXPECT_EQ(directory_.read("out"), "in its place");
}

TEST_F(BadInput, OutputDirectoryIsNotWritable) {
  if (!obeys_file_modes()) GTEST_SKIP() << "this process may write everywhere";
  fs::create_directory(directory_ / "out");
  fs::permissions(directory_ / "out", fs::perms::owner_read | fs::perms::owner_exec);
  expect_refused(sft(0, {}, {.obeys_permissions = true}), 74, {"out", "Permission denied"});
}

TEST_F(BadInput, DirectoryOfAnotherRunNeedsOverwrite) {
  ASSERT_EQ(sft(0, {{"max_steps", "3"}}).exit_code, 0);
  directory_.write("out/notes.txt", "mine");
  const std::string run_json = directory_.read("out/run.json"), log = directory_.read("out/metrics.jsonl");
  for (const int num_ranks : {0, 3}) {
    const RunResult refused = sft(num_ranks);
    EXPECT_EQ(refused.exit_code, 2);
    const std::vector<std::string> errors = lines_with(refused.err, "error: --output_dir out: holds a run already");
    ASSERT_EQ(errors.size(), 1u) << refused.err;
    EXPECT_NE(errors[0].find("--overwrite_output_dir true"), std::string::npos);
  }
  EXPECT_EQ(directory_.read("out/run.json"), run_json);
  EXPECT_EQ(directory_.read("out/metrics.jsonl"), log);

  const std::string old_model = directory_.read("out/model/model.safetensors");
  const RunResult overwritten = sft(0, {{"overwrite_output_dir", "true"}});
  ASSERT_EQ(overwritten.exit_code, 0) << overwritten.err;
  EXPECT_EQ(metrics("loss").size(), 2u);
  EXPECT_NE(directory_.read("out/model/model.safetensors"), old_model);
  EXPECT_EQ(directory_.read("out/notes.txt"), "mine");
}

TEST_F(BadInput, OverwritingKeepsTheBaseModel) {
  ASSERT_EQ(sft(0).exit_code, 0);
  sft(0, {{"model", "out/model"}, {"overwrite_output_dir", "true"}});
  EXPECT_TRUE(exists("out/model/model.safetensors"));
}

TEST_F(BadInput, DropLastRefusesTooFewRows) {
  const Options options = {{"dataloader_drop_last", "true"}, {"gradient_accumulation_steps", "7"}};
  expect_refused(sft(0, options), 2,
                 {"48 rows do not fill one step of 56 rows (1 ranks x 7 accumulation steps x 8 rows)"});
  expect_refused(sft(3, {{"dataloader_drop_last", "true"}, {"per_device_train_batch_size", "17"}}), 2,
                 {"48 rows do not fill one step of 51 rows"});
}

TEST_F(BadInput, NumbersOutOfRangeAreRefused) {
  const std::pair<const char*, const char*> kAbsurd[] = {{"gradient_accumulation_steps", "4611686018427387904"},
                                                         {"per_device_train_batch_size", "9223372036854775807"},
                                                         {"num_train_epochs", "1e300"}};
  for (const auto& [option, value] : kAbsurd) {
    Options options = {{option, value}, {"output_dir", std::string("out_") + option}};
    if (std::string(option) == "num_train_epochs") options["max_steps"] = "-1";
    const RunResult result = sft(0, options);
    expect_refused(result, 2, {option});
    EXPECT_FALSE(exists(options["output_dir"] + "/model"));
  }
}

TEST_F(BadInput, LossThatIsNotFiniteEndsTheRunWithoutAModel) {
  for (const int num_ranks : {0, 3}) {
    const Options options = {{"learning_rate", "1e30"}, {"overwrite_output_dir", "true"}};
    expect_refused(sft(num_ranks, options), 70, {"step 2", "not finite", "lower --learning_rate"});
    EXPECT_EQ(metrics("loss").size(), 1u);
  }
}

TEST_F(BadInput, ARankThatFailsWhileOthersWaitEndsTheJob) {
  // rank 0 fails to log step 1 while the others are already in step 2: the kernel takes no text for this file
  fs::create_directory(directory_ / "out");
  fs::create_symlink("/proc/self/coredump_filter", directory_ / "out/metrics.jsonl");
  for (const int num_ranks : {0, 3}) {
    const RunResult result = sft(num_ranks, {{"max_steps", "1000000"}, {"overwrite_output_dir", "true"}});
    expect_refused(result, 74, {"out/metrics.jsonl: cannot write: Invalid argument"});
    fs::remove(directory_ / "out/run.json");
  }
}

TEST_F(BadInput, InterruptedRunLeavesNoProcessAndNoTemporaryFile) {
  const std::string out = directory_ / "out";  // absolute, so that its processes can be found by it
  for (const int num_ranks : {0, 3}) {
    const RunResult result =
        sft(num_ranks, {{"max_steps", "1000000"}, {"output_dir", out}, {"overwrite_output_dir", "true"}},
            {.interrupt_after = "step 3/"});
    EXPECT_FALSE(result.has_timed_out);
    EXPECT_NE(result.exit_code, 0);
    for (int tries = 0; tries < 100 && count_processes(out) > 0; ++tries)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(count_processes(out), 0);
    EXPECT_EQ(unfinished_files(), std::vector<std::string>());
    EXPECT_FALSE(exists("out/model"));
    EXPECT_GE(metrics("loss").size(), 3u);
  }
}

}  // namespace
}  // namespace plumb::test
