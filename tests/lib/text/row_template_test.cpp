// Which template renders rows of each shape, and the options that it sees.
#include "lib/text/row_template.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "lib/text/row.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;  // as rows are read: keys keep their order

const char* const kWhere = "a.jsonl:7: row 6";

Tokenizer tiny_tokenizer(const std::string& config) {
  return Tokenizer::from_json(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})", config);
}

TEST(RowTemplate, PrefersNamedThenOwnThenShapeDefault) {
  const Tokenizer bare = tiny_tokenizer("{}");
  const Tokenizer chatty = tiny_tokenizer(R"({"chat_template": "own"})");
  const auto chosen = [&](const char* row, const Tokenizer& tokenizer, std::string_view name = {}) -> std::string {
    const std::vector<Message> messages = {{"user", "hi"}};
    const std::optional<RowTemplate> found =
        choose_template(find_row_format(json::parse(row), {}, kWhere), tokenizer, name);
    return found ? found->chat.render(messages, false).text : "none";
  };
  const char* messages = R"({"messages": []})";
  const char* instruction = R"({"instruction": "", "output": ""})";
  const char* question = R"({"question": "", "answer": ""})";
  EXPECT_EQ(chosen(messages, chatty), "own");
  EXPECT_EQ(chosen(messages, bare), "none");
  EXPECT_EQ(chosen(messages, chatty, "chatml"), "<|im_start|>user\nhi<|im_end|>\n");
  EXPECT_EQ(chosen(instruction, chatty), "own");
  EXPECT_NE(chosen(instruction, bare).find("### Instruction:\nhi"), std::string::npos);
  EXPECT_EQ(chosen(question, bare), "Question: hi\n\n");
  EXPECT_EQ(chosen(R"({"text": ""})", chatty), "none");
  EXPECT_THROW(chosen(R"({"text": ""})", chatty, "chatml"), UsageError);
  EXPECT_THROW(chosen(messages, chatty, "chatlm"), UsageError);
}

TEST(RowTemplate, SeesOptionsThatARowReplacesOneByOne) {
  const Tokenizer tokenizer = tiny_tokenizer(R"({"chat_template": "{{ a }}{{ b }}{{ messages[0].content }}"})");
  const RowFormat format = find_row_format(json::parse(R"({"messages": [], "chat_template_kwargs": {}})"), {}, kWhere);
  const auto with = [&](std::string_view variables) { return choose_template(format, tokenizer, "", variables); };
  const auto text_of = [&](const char* row) {
    const std::optional<RowTemplate> chat = with(R"({"a": 1, "b": [true]})");
    return render_sft(json::parse(row), format, &*chat, {}, kWhere).full.text;
  };
  EXPECT_EQ(text_of(R"({"messages": [{"role": "user", "content": "q"}]})"), "1[True]q");
  EXPECT_EQ(text_of(R"({"messages": [{"role": "user", "content": "q"}], "chat_template_kwargs": {"a": "x"}})"),
            "x[True]q");
  EXPECT_EQ(with(R"({"a": 1, "q": 2, "r": 3})")->chat.unread_variables(), (std::vector<std::string>{"q", "r"}));
  EXPECT_EQ(with("")->chat.unread_variables(), std::vector<std::string>());
  for (const char* refused : {"{", "[1]", R"({"messages": []})", R"({"a": 1, "a": 2})", "x"})
    EXPECT_THROW(with(refused), UsageError) << refused;
  EXPECT_THROW(choose_template(find_row_format(json::parse(R"({"text": ""})"), {}, kWhere), tokenizer, "", "{}"),
               UsageError);
}

}  // namespace
}  // namespace plumb
