// What the real program does with rows and output directories that are no good: which exit code, which message, and that
// nothing is left half-written, on one rank and on three.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/program_test.hpp"

namespace plumb::test {
namespace {

struct BadData {
  const char* name;
  const char* file;
  std::string content;
  int exit_code;
  std::vector<std::string> message;
};

void PrintTo(const BadData& bad, std::ostream* out) { *out << bad.name; }

/// The fault is in the last row, so on several ranks in the slice of the last.
std::vector<BadData> bad_data() {
  using namespace std::string_literals;
  const std::string good_csv = "prompt,completion\r\na,b\r\nc,\"d\r\ne\"\r\n";
  const std::string good_json = "{\"text\":\"a b c\"}\n{\"text\":\"d e f\"}\n";
  return {
      {"EmptyFile", "x.csv", "", 65, {"x.csv: expected rows, got an empty file"}},
      {"EmptyJsonLines", "x.jsonl", "\n\n", 65, {"x.jsonl: expected rows, got none"}},
      {"HeaderOnly", "x.csv", "prompt,completion\n", 65, {"x.csv: expected rows, got none below the header"}},
      {"RaggedRow", "x.csv", good_csv + "f,g,h\r\n", 65, {"x.csv:5: row 2: expected 2 fields", "got 3", "must be quoted"}},
      {"UnclosedQuote", "x.csv", good_csv + "f,\"g\r\nh,i\r\n", 65, {"x.csv:5: row 2: expected a closing quote"}},
      {"MissingColumn",
       "x.csv",
       "prompt,completoin\na,b\n",
       65,
       {"x.csv:2: row 0: expected the columns", "got columns: completoin, prompt", "--columns completion=completoin"}},
      {"BadJsonLine", "x.jsonl", good_json + "{\"text\":\"g h\"\n", 65, {"x.jsonl:3: row 2: column 13: expected JSON"}},
      {"NotAnObject", "x.jsonl", good_json + "[1]\n", 65, {"x.jsonl:3: row 2: expected a JSON object", "got array"}},
      {"WrongType", "x.jsonl", good_json + "{\"text\":7}\n", 65, {"x.jsonl:3: row 2: column \"text\": expected text, got number"}},
      {"OtherColumns", "x.jsonl", good_json + "{\"words\":\"g\"}\n", 65, {"x.jsonl:3: row 2: expected a column \"text\"", "words"}},
      {"PreferenceRows",
       "x.jsonl",
       R"({"prompt":"a","chosen":"b","rejected":"c"})",
       65,
       {"x.jsonl:1: row 0", "pairs are for reward and dpo"}},
      {"ConversationWithoutTemplate",
       "x.jsonl",
       R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]})",
       2,
       {"x.jsonl:1: row 0", "no chat template", "chatml"}},
      {"UnknownRole",
       "x.jsonl",
       R"({"messages":[{"role":"robot","content":"a"}]})",
       65,
       {"x.jsonl:1: row 0", "message 0: expected a role among", "got \"robot\""}},
      {"InvalidUtf8", "x.jsonl", good_json + "{\"text\":\"\xff\"}\n", 65, {"x.jsonl:3: row 2: byte 9: expected UTF-8, got the byte 0xFF"}},
      {"Utf16", "x.csv", "\xff\xfep\0,\0q\0"s, 65, {"x.csv: offset 0: expected UTF-8", "UTF-16"}},
      {"Compressed", "x", "\x1f\x8b\b\0"s, 65, {"x: expected a name in .csv", "got compressed data"}},
      {"UnknownFormat", "x.txt", "some text\n", 65, {"x.txt: expected a name in .csv"}},
      {"NothingToLearn", "x.jsonl", "{\"text\":\"\"}\n", 65, {"expected rows to train on, kept none of 1", "x.jsonl:1"}},
  };
}

class BadDataTest : public ProgramTest, public testing::WithParamInterface<BadData> {};

TEST_P(BadDataTest, IsRefused) {
  const BadData& bad = GetParam();
  directory_.write(bad.file, bad.content);
  expect_refused(sft(0, {{"data", bad.file}, {"chat_template", bad.exit_code == 65 && bad.content.find("messages") != std::string::npos ? "chatml" : ""}}), bad.exit_code, bad.message);
}

INSTANTIATE_TEST_SUITE_P(OneRank, BadDataTest, testing::ValuesIn(bad_data()),
                         [](const auto& info) { return info.param.name; });

class BadInput : public ProgramTest {};

TEST_F(BadInput, MissingFileIsAnInputOutputError) {
  expect_refused(sft(0, {{"data", "absent.csv"}}), 74, {"absent.csv: cannot open: No such file or directory"});
}

}  // namespace
}  // namespace plumb::test
