#include "lib/text/row_format.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;  // as rows are read: keys keep their order
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

TEST(RowFormat, NullIsNoColumn) {
  EXPECT_EQ(format_of(R"({"messages": null, "text": ""})").shape, RowShape::kText);
  EXPECT_EQ(format_of(R"({"messages": null, "conversations": []})").columns.at("messages"), "conversations");
  EXPECT_EQ(format_of(R"({"instruction": null, "output": ""})").shape, RowShape::kInstruction);  // no other fits
}

TEST(RowFormat, PairsAreAskedByTheFirstColumnThatTheyHave) {
  const auto asked_by = [](const char* row, const Columns& columns = {}) {
    std::string roles;
    for (const auto& [role, column] : format_of(row, columns).columns) {
      if (role != "chosen" && role != "rejected") roles += role + "=" + column + " ";
    }
    return roles;
  };
  EXPECT_EQ(asked_by(R"({"chosen": "", "rejected": "", "prompt": "", "question": ""})"), "prompt=prompt ");
  EXPECT_EQ(asked_by(R"({"chosen": "", "rejected": "", "prompt": "", "q": ""})", {{"question", "q"}}).find("prompt"),
            std::string::npos);
  EXPECT_TRUE(format_of(R"({"chosen": "", "rejected": "", "question": ""})").is_conversation);
  EXPECT_TRUE(format_of(R"({"chosen": {}, "rejected": {}, "prompt": ""})").is_conversation);
  EXPECT_FALSE(format_of(R"({"chosen": "", "rejected": "", "system": ""})").is_conversation);
}

TEST(RowFormat, ContextColumnsNeedAConversation) {
  EXPECT_EQ(format_of(R"({"messages": [], "persona": ""})", {{"system", "persona"}}).columns.at("system"), "persona");
  EXPECT_EQ(format_of(R"({"conversations": [], "history": []})").columns.at("history"), "history");
  const char* text = R"({"prompt": "", "completion": "", "system": "s"})";
  EXPECT_FALSE(format_of(text).is_conversation);
  EXPECT_EQ(format_of(text).dropped_columns, std::vector<std::string>{"system"});
  EXPECT_TRUE(format_of(text, {{"system", "system"}}).is_conversation);
  expect_contains(refusal<UsageError>(R"({"text": "", "system": ""})", {{"text", "text"}, {"system", "system"}}),
                  {"expected the columns of known rows"});
}

TEST(RowFormat, ColumnsOfOtherTrainersAreDroppedUnlessTheyRepeatUsedOnes) {
  using Names = std::vector<std::string>;
  const RowFormat format =
      format_of(R"({"text": "a b", "prompt": "a", "weight": 2, "id": 1, "tools": "x", "label": null})");
  EXPECT_EQ(format.unused_columns, (Names{"prompt", "weight", "id", "tools", "label"}));
  EXPECT_EQ(format.dropped_columns, (Names{"weight", "tools"}));
  EXPECT_EQ(format_of(R"({"messages": [{"role": "user", "content": "a"}], "prompt": "a"})").dropped_columns, Names{});
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
  EXPECT_EQ(format_of(R"({"dialog": []})", {{"conversations", "dialog"}}).columns.at("messages"), "dialog");
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
