#include "lib/text/row.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

const char* const kWhere = "a.jsonl:7: row 6";
// Renders turns as [role:content]; a message never changes how another is rendered.
const char* const kPlainTurns =
    "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}]{% endfor %}"
    "{% if add_generation_prompt %}[assistant:{% endif %}";

SftText render_row(const char* row, const RowTemplate* chat = nullptr, const SftOptions& options = {}) {
  const json parsed = json::parse(row);
  return render_sft(parsed, find_row_format(parsed, {}, kWhere), chat, options, kWhere);
}

RowTemplate turns(const char* source = kPlainTurns) { return {ChatTemplate::from_jinja(source, "<s>", "</s>")}; }

/// The message with which `row` is refused in a data set whose first row is `first_row`.
std::string refusal(const char* first_row, const char* row, const SftOptions& options = {}) {
  const RowTemplate chat = turns();
  const std::string message = message_of<DataError>([&] {
    render_sft(json::parse(row), find_row_format(json::parse(first_row), {}, kWhere), &chat, options, kWhere);
  });
  EXPECT_TRUE(message.starts_with(kWhere)) << message;
  return message;
}

std::vector<std::string> pieces(const std::string& text, const std::vector<ByteRange>& ranges) {
  std::vector<std::string> out;
  for (const ByteRange& range : ranges) out.push_back(text.substr(range.begin, range.end - range.begin));
  return out;
}

TEST(SftText, PlainTextIsUserTextAndEndsInEos) {
  const SftText text = render_row(R"({"text": "a<s>b"})");
  EXPECT_EQ(text.full.text, "a<s>b");
  EXPECT_EQ(pieces(text.full.text, text.full.user_ranges), std::vector<std::string>{"a<s>b"});
  EXPECT_FALSE(text.prompt);
  EXPECT_TRUE(text.appends_eos);
  EXPECT_TRUE(text.adds_special_tokens);
}

TEST(SftText, PromptIsAPrefixOfTheFullText) {
  const SftText text = render_row(R"({"prompt": "ab", "completion": "cd"})");
  EXPECT_EQ(text.full.text, "abcd");
  ASSERT_TRUE(text.prompt);
  EXPECT_EQ(text.prompt->text, "ab");
  EXPECT_EQ(pieces("abcd", text.full.user_ranges), std::vector<std::string>{"abcd"});
  EXPECT_TRUE(text.appends_eos);
}

TEST(SftText, ParsingSpecialTokensUnmarksUserText) {
  SftOptions options;
  options.parses_special_tokens = true;
  EXPECT_TRUE(render_row(R"({"text": "a</s>"})", nullptr, options).full.user_ranges.empty());
  const RowTemplate chat = turns();
  const char* row = R"({"messages": [{"role": "user", "content": "</s>"}]})";
  EXPECT_TRUE(render_row(row, &chat, options).full.user_ranges.empty());
  EXPECT_EQ(render_row(row, &chat).full.user_ranges.size(), 1u);
}

TEST(SftText, MessagesAreRenderedByTheTemplateAlone) {
  const RowTemplate chat = turns();
  const SftText text =
      render_row(R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]})", &chat);
  EXPECT_EQ(text.full.text, "[user:hi][assistant:yo]");
  EXPECT_EQ(pieces(text.full.text, text.full.user_ranges), (std::vector<std::string>{"hi", "yo"}));
  EXPECT_FALSE(text.prompt);
  EXPECT_FALSE(text.assistant_ranges);
  EXPECT_FALSE(text.appends_eos);
  EXPECT_FALSE(text.adds_special_tokens);
}

TEST(SftText, ShareGptTurnsAreMessages) {
  const RowTemplate chat = turns();
  const SftText text = render_row(
      R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]})",
      &chat);
  EXPECT_EQ(text.full.text, "[system:s][user:h][assistant:g]");
}

TEST(SftText, PromptOfMessagesEndsInTheHeaderOfTheAnswer) {
  const RowTemplate chat = turns();
  const SftText text = render_row(
      R"({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]})",
      &chat);
  EXPECT_EQ(text.full.text, "[user:q][assistant:a]");
  EXPECT_EQ(text.prompt.value().text, "[user:q][assistant:");
}

TEST(SftText, InstructionAndInputAreTheUserTurn) {
  const RowTemplate chat = turns();
  const SftText both = render_row(R"({"instruction": "i", "input": "x", "output": "o"})", &chat);
  EXPECT_EQ(both.full.text, "[user:i\nx][assistant:o]");
  EXPECT_EQ(both.prompt.value().text, "[user:i\nx][assistant:");
  EXPECT_EQ(render_row(R"({"instruction": "i", "input": "", "output": "o"})", &chat).full.text,
            "[user:i][assistant:o]");
  EXPECT_EQ(render_row(R"({"instruction": "i", "input": null, "output": "o"})", &chat).full.text,
            "[user:i][assistant:o]");
}

TEST(SftText, AlpacaHasAnInputTurn) {
  const RowTemplate alpaca = {ChatTemplate::named("alpaca", "<s>", "</s>"), true};
  const SftText text = render_row(R"({"instruction": "i", "input": "x", "output": "o"})", &alpaca);
  EXPECT_TRUE(text.full.text.ends_with("### Instruction:\ni\n\n### Input:\nx\n\n### Response:\no</s>"))
      << text.full.text;
  EXPECT_TRUE(text.prompt.value().text.ends_with("### Input:\nx\n\n### Response:\n")) << text.prompt.value().text;
  EXPECT_TRUE(text.adds_special_tokens);
  EXPECT_FALSE(text.appends_eos);
}

TEST(SftText, QuestionMayHaveASystemText) {
  const RowTemplate chat = turns();
  EXPECT_EQ(render_row(R"({"system": "s", "question": "q", "answer": "a"})", &chat).full.text,
            "[system:s][user:q][assistant:a]");
  EXPECT_EQ(render_row(R"({"question": "q", "answer": "a"})", &chat).prompt.value().text, "[user:q][assistant:");
}

TEST(SftText, AssistantRangesCoverEveryAnswer) {
  const RowTemplate chat = turns();
  SftOptions options;
  options.assistant_only_loss = true;
  const SftText text = render_row(
      R"({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                       {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]})",
      &chat, options);
  ASSERT_TRUE(text.assistant_ranges);
  EXPECT_EQ(pieces(text.full.text, *text.assistant_ranges), (std::vector<std::string>{"2]", "4]"}));
}

TEST(SftText, AssistantRangesNeedATemplateThatKeepsPrefixes) {
  SftOptions options;
  options.assistant_only_loss = true;
  const RowTemplate chat = turns(
      "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}{% if loop.last %}!{% endif %}]{% endfor %}"
      "{% if add_generation_prompt %}[assistant:{% endif %}");
  EXPECT_THROW(render_row(R"({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]})",
                          &chat, options),
               DataError);
  EXPECT_THROW(render_row(R"({"text": "a"})", nullptr, options), UsageError);
}

TEST(SftText, ConversationsNeedATemplate) {
  EXPECT_THROW(render_row(R"({"messages": [{"role": "user", "content": "1"}]})"), UsageError);
}

TEST(SftText, PreferencePairsAreNotRendered) {
  EXPECT_THROW(render_row(R"({"chosen": "a", "rejected": "b"})"), UsageError);
}

TEST(SftText, BadCellsAreRefusedWithTheirPlace) {
  const char* pair = R"({"prompt": "", "completion": ""})";
  expect_contains(refusal(pair, R"({"prompt": "a"})"),
                  {"expected a column \"completion\" as in the first row, got columns: prompt"});
  expect_contains(refusal(pair, R"({"prompt": "a", "completion": 3})"),
                  {"column \"completion\": expected text, got number"});
  expect_contains(refusal(pair, R"({"prompt": null, "completion": "a"})"),
                  {"column \"prompt\": expected text, got null"});
  expect_contains(refusal(pair, R"({"prompt": [], "completion": "a"})"),
                  {"column \"prompt\": expected text, got array"});
  expect_contains(refusal(R"({"instruction": "", "output": ""})", R"({"instruction": "", "input": 1, "output": ""})"),
                  {"column \"input\": expected text, got number"});
}

TEST(SftText, BadMessagesAreRefusedWithTheirPlace) {
  const char* first = R"({"messages": []})";
  expect_contains(refusal(first, R"({"messages": "hi"})"),
                  {"column \"messages\": expected a list of messages, got string"});
  expect_contains(refusal(first, R"({"messages": []})"), {"expected 1 to 4096 messages, got 0"});
  expect_contains(refusal(first, R"({"messages": [1]})"), {"message 0: expected an object, got number"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user"}]})"),
                  {"message 0: expected the keys role and content"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user", "content": null}]})"),
                  {"content: expected text, got null"});
  expect_contains(refusal(first, R"({"messages": [{"role": "bot", "content": ""}]})"), {"got \"bot\""});
  expect_contains(refusal(first, R"({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]})"),
                  {"tool_calls: expected role and content only"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user", "content": ""}], "tools": [{}]})"),
                  {"column \"tools\""});
}

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

TEST(SftText, TemplateErrorsNameTheRow) {
  const RowTemplate chat = turns("{{ raise_exception('no') }}");
  try {
    render_row(R"({"messages": [{"role": "user", "content": "1"}]})", &chat);
    FAIL() << "not refused";
  } catch (const DataError& error) {
    EXPECT_TRUE(std::string_view(error.what()).starts_with("a.jsonl:7: row 6: ")) << error.what();
  }
}

}  // namespace
}  // namespace plumb
