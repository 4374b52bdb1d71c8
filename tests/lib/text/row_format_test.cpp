#include "lib/text/row_format.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;
using Columns = std::map<std::string, std::string>;

RowFormat format_of(const char* row, const Columns& columns = {}, RowUse use = RowUse::kAny) {
  return find_row_format(json::parse(row), columns, "a.jsonl:1: row 0", use);
}

template <class Error>
std::string refusal(const char* row, const Columns& columns = {}, RowUse use = RowUse::kAny) {
  return message_of<Error>([&] { format_of(row, columns, use); });
}

TEST(RowFormat, ColumnsDecideTheShape) {
  EXPECT_EQ(format_of(R"({"text": ""})").shape, RowShape::kText);
  EXPECT_EQ(format_of(R"({"prompt": "", "completion": ""})").shape, RowShape::kPromptCompletion);
  EXPECT_EQ(format_of(R"({"messages": []})").shape, RowShape::kMessages);
  EXPECT_EQ(format_of(R"({"conversations": []})").shape, RowShape::kMessages);
  EXPECT_EQ(format_of(R"({"instruction": "", "output": ""})").shape, RowShape::kInstruction);
  EXPECT_EQ(format_of(R"({"system": "", "question": "", "answer": ""})").shape, RowShape::kQuestion);
  EXPECT_EQ(format_of(R"({"chosen": "", "rejected": ""})").shape, RowShape::kPreference);
}

TEST(RowFormat, CellsDistinguishMessagesFromText) {
  EXPECT_FALSE(format_of(R"({"prompt": "", "completion": ""})").is_conversation);
  EXPECT_TRUE(format_of(R"({"prompt": [], "completion": []})").is_conversation);
  EXPECT_FALSE(format_of(R"({"prompt": "", "chosen": "", "rejected": ""})").is_conversation);
  EXPECT_TRUE(format_of(R"({"chosen": [], "rejected": []})").is_conversation);
}

TEST(RowFormat, UseDecidesBetweenPairsAndMessages) {
  const char* row = R"({"prompt": "", "chosen": [], "rejected": [], "messages": [], "score": 1})";
  EXPECT_EQ(format_of(row, {}, RowUse::kSft).shape, RowShape::kMessages);
  EXPECT_EQ(format_of(row, {}, RowUse::kPreference).shape, RowShape::kPreference);
  expect_contains(refusal<DataError>(R"({"chosen": "", "rejected": ""})", {}, RowUse::kSft), {"columns of SFT rows"});
  expect_contains(refusal<DataError>(R"({"chosen": "", "rejected": ""})", {}, RowUse::kSft),
                  {"pairs are for reward and dpo"});
  expect_contains(refusal<DataError>(R"({"text": ""})", {}, RowUse::kPreference), {"columns of preference rows"});
}

TEST(RowFormat, ARenderedCopyInTextIsNotPreferred) {
  const RowFormat format = format_of(R"({"instruction": "", "input": "", "output": "", "text": ""})");
  EXPECT_EQ(format.shape, RowShape::kInstruction);
  EXPECT_EQ(format.unused_columns, std::vector<std::string>{"text"});
  EXPECT_EQ(format_of(R"({"instruction": "", "output": "", "text": ""})", {{"text", "text"}}).shape, RowShape::kText);
}

TEST(RowFormat, OptionalColumnsMayStartInALaterRow) {
  const RowFormat format = format_of(R"({"instruction": "", "output": ""})");
  EXPECT_EQ(format.columns.at("input"), "input");
}

TEST(RowFormat, FirstPairDecidesPromptAndMargin) {
  EXPECT_EQ(format_of(R"({"chosen": "", "rejected": "", "prompt": null})").columns,
            (Columns{{"chosen", "chosen"}, {"rejected", "rejected"}}));
  EXPECT_EQ(format_of(R"({"chosen": "", "rejected": "", "margin": 1})").columns.at("margin"), "margin");
  EXPECT_EQ(format_of(R"({"chosen": "", "rejected": "", "gap": 1})", {{"margin", "gap"}}).columns.at("margin"), "gap");
}

TEST(RowFormat, OverridesNameColumns) {
  const char* row = R"({"system": "", "question": "", "answer": "", "input": ""})";
  const RowFormat pair = format_of(row, {{"prompt", "question"}, {"completion", "answer"}});
  EXPECT_EQ(pair.shape, RowShape::kPromptCompletion);
  EXPECT_EQ(pair.columns, (Columns{{"prompt", "question"}, {"completion", "answer"}}));
  // "input" is a column of the instruction and gets no second role.
  const RowFormat instruction = format_of(row, {{"instruction", "input"}, {"output", "answer"}});
  EXPECT_EQ(instruction.shape, RowShape::kInstruction);
  EXPECT_FALSE(instruction.columns.contains("input"));
  EXPECT_EQ(format_of(R"({"dialog": []})", {{"conversations", "dialog"}}).columns, (Columns{{"messages", "dialog"}}));
  EXPECT_EQ(format_of(R"({"question": "", "answer": "", "hint": ""})", {{"system", "hint"}}).columns.at("system"),
            "hint");
}

TEST(RowFormat, UnknownColumnsAreListedWithTheNearestRole) {
  const std::string message = refusal<DataError>(R"({"instructions": "", "output": ""})");
  EXPECT_TRUE(message.starts_with("a.jsonl:1: row 0: expected the columns of known rows: prompt+chosen+rejected, "));
  expect_contains(message, {"got columns: instructions, output"});
  expect_contains(message, {"--columns instruction=instructions"});
  expect_contains(refusal<DataError>(R"({"xyzzyx": ""})"), {"name them with --columns role=name,..."});
  expect_contains(refusal<DataError>("[1]"), {"expected an object, got array"});
}

TEST(RowFormat, BadOverridesAreUsageErrors) {
  const char* row = R"({"question": "", "answer": ""})";
  expect_contains(refusal<UsageError>(row, {{"promt", "question"}}), {"unknown role \"promt\""});
  expect_contains(refusal<UsageError>(row, {{"promt", "question"}}), {"did you mean \"prompt\"?"});
  expect_contains(refusal<UsageError>(row, {{"prompt", "qestion"}}), {"did you mean \"question\"?"});
  expect_contains(refusal<UsageError>(row, {{"prompt", "answer"}, {"completion", "answer"}}), {"two roles"});
  expect_contains(refusal<UsageError>(row, {{"messages", "answer"}, {"conversations", "question"}}), {"got several"});
  expect_contains(refusal<UsageError>(row, {{"prompt", "question"}}), {"expected the columns of known rows"});
}

TEST(ColumnsOption, IsAListOfAssignments) {
  EXPECT_EQ(parse_columns_option("prompt=q,completion=a=b"), (Columns{{"prompt", "q"}, {"completion", "a=b"}}));
  EXPECT_EQ(parse_columns_option(""), Columns{});
  for (const char* bad : {"prompt", "=a", "prompt=", "prompt=a,,text=b", "prompt=a,prompt=b"}) {
    EXPECT_THROW(parse_columns_option(bad), UsageError) << bad;
  }
}

}  // namespace
}  // namespace plumb
