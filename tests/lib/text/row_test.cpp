#include "lib/text/row.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;  // as rows are read: keys keep their order

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

TEST(SftText, ABlankInstructionLeavesTheInputToAsk) {
  const RowTemplate chat = turns();
  const SftText blank = render_row(R"({"instruction": " ", "input": "x", "output": "o"})", &chat);
  EXPECT_EQ(blank.full.text, "[user:x][assistant:o]");
  EXPECT_FALSE(blank.asks_nothing);
  EXPECT_TRUE(render_row(R"({"instruction": "", "input": " ", "output": "o"})", &chat).asks_nothing);
  EXPECT_TRUE(render_row(R"({"prompt": "\n", "completion": "c"})").asks_nothing);
  EXPECT_FALSE(render_row(R"({"prompt": "p", "completion": "c"})").asks_nothing);
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

SftOptions assistant_only() {
  SftOptions options;
  options.assistant_only_loss = true;
  return options;
}

std::vector<std::string> assistant_pieces(const char* row, const RowTemplate& chat) {
  const SftText text = render_row(row, &chat, assistant_only());
  return pieces(text.full.text, *text.assistant_ranges);
}

const char* const kTwoAnswers =
    R"({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"},
                     {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}]})";

TEST(SftText, GenerationMarksDecideWhatIsTrained) {
  const RowTemplate marked = turns(
      "{% for m in messages %}[{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
      "{% endgeneration %}{% else %}{{ m.content }}{% endif %}]{% endfor %}");
  EXPECT_EQ(assistant_pieces(kTwoAnswers, marked), (std::vector<std::string>{"2", "4"}));
  const RowTemplate last = turns(
      "{% for m in messages %}[{% if loop.last %}{% generation %}{{ m.content }}{% endgeneration %}]{% endif %}"
      "{% endfor %}");
  EXPECT_EQ(assistant_pieces(kTwoAnswers, last), std::vector<std::string>{"4"});
}

TEST(SftText, EarlierTurnsMayBeRenderedOtherwise) {
  // thoughts of earlier turns are left out, and the end of the text has a mark of its own
  const RowTemplate chat = turns(
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}(t){% endif %}{{ m.content "
      "}}</>"
      "{% endfor %}{% if add_generation_prompt %}<assistant>{% else %}$$ {% endif %}");
  EXPECT_EQ(render_row(kTwoAnswers, &chat).full.text, "<user>1</><assistant>2</><user>3</><assistant>(t)4</>$$ ");
  EXPECT_EQ(assistant_pieces(kTwoAnswers, chat), (std::vector<std::string>{"2</>", "(t)4</>$$ "}));
}

TEST(SftText, TheAssistantMayBeginAConversation) {
  const char* row =
      R"({"messages": [{"role": "assistant", "content": "1"}, {"role": "user", "content": "2"},
                       {"role": "assistant", "content": "3"}]})";
  EXPECT_EQ(assistant_pieces(row, turns()), (std::vector<std::string>{"1]", "3]"}));
  const RowTemplate needs_messages = turns(
      "{{ messages[0]['role'].upper() }};{% for m in messages %}<{{ m.role }}>{{ m.content }}|{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}");
  EXPECT_EQ(assistant_pieces(row, needs_messages), (std::vector<std::string>{"1|", "3|"}));
}

TEST(SftText, AThoughtThatTheHeaderOpensIsTrained) {
  const RowTemplate chat = turns(
      "{% for m in messages %}[{{ m.role }}:{% if m.role == 'assistant' %}<think></think>{% endif %}{{ m.content }}]"
      "{% endfor %}{% if add_generation_prompt %}[assistant:<think>\n{% endif %}");
  EXPECT_EQ(assistant_pieces(kTwoAnswers, chat), (std::vector<std::string>{"<think></think>2]", "<think></think>4]"}));
}

TEST(SftText, TurnsMarkedAsUntrainedAreNotTrained) {
  const RowTemplate chat = turns();
  for (const char* mark : {R"("weight": 0)", R"("train": false)", R"("loss": false)", R"("loss": 0)"}) {
    const std::string row =
        R"({"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2", )" +
        std::string(mark) + R"(}, {"role": "assistant", "content": "4", "weight": 1}]})";
    EXPECT_EQ(assistant_pieces(row.c_str(), chat), std::vector<std::string>{"4]"}) << mark;
    const SftText all = render_row(row.c_str(), &chat);
    EXPECT_EQ(pieces(all.full.text, all.untrained_ranges), std::vector<std::string>{"2]"}) << mark;
  }
  const char* first = R"({"messages": []})";
  expect_contains(refusal(first, R"({"messages": [{"role": "assistant", "content": "", "weight": 0.5}]})"),
                  {"message 0: weight: expected true, false, 0 or 1, got 0.5"});
}

TEST(SftText, SystemAndHistoryGoBeforeTheQuestion) {
  const RowTemplate chat = turns();
  const auto text_of = [&](const char* row) { return render_row(row, &chat).full.text; };
  EXPECT_EQ(
      text_of(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"})"),
      "[system:s][user:q][assistant:a]");
  EXPECT_EQ(text_of(R"({"instruction": "i", "output": "o", "system": "s", "history": [["1", "2"], ["3", "4"]]})"),
            "[system:s][user:1][assistant:2][user:3][assistant:4][user:i][assistant:o]");
  EXPECT_EQ(text_of(R"({"instruction": "i", "output": "o", "history": []})"), "[user:i][assistant:o]");
  EXPECT_EQ(text_of(R"({"prompt": "q", "completion": [{"role": "assistant", "content": "a"}]})"),
            "[user:q][assistant:a]");
  EXPECT_EQ(text_of(R"({"instruction": null, "input": "x", "output": "o"})"), "[user:x][assistant:o]");
  expect_contains(
      refusal(R"({"instruction": "", "output": ""})", R"({"instruction": "", "output": "", "history": [["1"]]})"),
      {"column \"history\": pair 0: expected a list of a question and its answer"});
}

TEST(SftText, TemplatesSeeToolsOptionsAndEveryKeyOfATurn) {
  const RowTemplate chat = turns(
      "{{ tools | tojson }}{{ depth }}{% for m in messages %}[{{ m.role }}:{{ m.name }}{{ m.reasoning_content }}"
      "{{ m.thinking }}{{ m.content }}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}]{% endfor %}");
  const char* row =
      R"({"messages": [{"role": "user", "content": "q", "name": "Ann"},
                       {"role": "assistant", "content": null, "reasoning": "r", "tool_calls":
                        [{"function": {"name": "f", "arguments": {"b": 1, "a": [true]}}}]},
                       {"role": "tool", "content": "t", "tool_calls": []}],
          "tools": "[{\"z\": 1, \"y\": 2}]", "chat_template_kwargs": {"depth": 3}})";
  const SftText text = render_row(row, &chat);
  EXPECT_EQ(
      text.full.text,
      R"([{"z": 1, "y": 2}]3[user:Annq][assistant:rrNone{"name": "f", "arguments": {"b": 1, "a": [true]}}][tool:t])");
  EXPECT_FALSE(text.omits_message);
  EXPECT_TRUE(
      render_row(R"({"messages": [{"role": "user", "content": "q"}, {"role": "developer", "content": "d"}]})",
                 [] {
                   static const RowTemplate users =
                       turns("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}");
                   return &users;
                 }())
          .omits_message);
}

TEST(SftText, AnEmptyThoughtIsOneAndThoughtsNeedNoContent) {
  const RowTemplate chat =
      turns("{% for m in messages %}[{{ m.content }}|{{ m.reasoning_content }}|{{ m.name is defined }}]{% endfor %}");
  const char* row =
      R"({"messages": [{"role": "user", "content": "q", "name": ""},
                       {"role": "assistant", "content": "a", "reasoning_content": "", "reasoning": "no"},
                       {"role": "assistant", "content": null, "thinking": "t", "weight": ""}]})";
  EXPECT_EQ(render_row(row, &chat).full.text, "[q||True][a||False][None|t|False]");
}

TEST(SftText, ToolsTakeTheTemplateForTools) {
  RowTemplate chat = turns("{% for m in messages %}[{{ m.content }}]{% endfor %}");
  RowTemplate tools = turns("{{ tools | length }}{% for m in messages %}({{ m.content }}){% endfor %}");
  tools.turn_end = 5;
  chat.with_tools = std::make_shared<const RowTemplate>(tools);
  const std::string messages = R"({"messages": [{"role": "user", "content": "q"},
                                                {"role": "assistant", "content": "a"}], "tools": )";
  const SftText with = render_row((messages + R"([{"name": "f"}]})").c_str(), &chat);
  EXPECT_EQ(with.full.text, "1(q)(a)");
  EXPECT_EQ(with.turn_end, 5);
  EXPECT_EQ(render_row((messages + "[]}").c_str(), &chat).full.text, "[q][a]");
  EXPECT_EQ(chat.unread_variables(), std::vector<std::string>());
}

TEST(SftText, ShareGptCallsFunctions) {
  const RowTemplate chat = turns(
      "{% for m in messages %}[{{ m.role }}:{{ m.content }}{{ m.tool_calls | tojson if m.tool_calls }}]{% endfor %}");
  EXPECT_EQ(render_row(R"({"conversations": [{"from": "human", "value": "q"},
                           {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {}}"},
                           {"from": "observation", "value": "o"}], "tools": "[]"})",
                       &chat)
                .full.text,
            R"([user:q][assistant:[{"type": "function", "function": {"name": "f", "arguments": {}}}]][tool:o])");
}

TEST(SftText, AssistantRangesNeedATemplateThatKeepsPrefixes) {
  const SftOptions options = assistant_only();
  const RowTemplate chat = turns(
      "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}{% if loop.last %}!{% endif %}]{% endfor %}"
      "{% if add_generation_prompt %}[assistant:{% endif %}");
  EXPECT_EQ(assistant_pieces(kTwoAnswers, chat), (std::vector<std::string>{"2", "4!]"}));
  const RowTemplate silent = turns("{% for m in messages %}{{ loop.length }}{% endfor %}");
  EXPECT_THROW(render_row(kTwoAnswers, &silent, options), DataError);
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
  expect_contains(
      refusal(first, R"({"messages": [{"role": "assistant", "content": null, "function_call": {"name": "f"}}]})"),
      {"content: expected text, got null; write the call of a function as a list tool_calls"});
  expect_contains(refusal(first, R"({"messages": [{"role": "assistant", "content": "", "tool_calls": "[]"}]})"),
                  {"tool_calls: expected a list of calls, got string; write it as JSON, not as text"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
                  {"content: expected text, or parts of type text, got a part of type image"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user", "content": ""}], "tools": {"a": 1}})"),
                  {"column \"tools\": expected a list of tools"});
  expect_contains(refusal(first, R"({"messages": [{"role": "user", "content": ""}], "images": ["a.png"]})"),
                  {"column \"images\": expected none, got a value"});
  expect_contains(
      refusal(first, R"({"messages": [{"role": "user", "content": ""}], "chat_template_kwargs": {"messages": []}})"),
      {"column \"chat_template_kwargs\": expected options of the template"});
}

TEST(SftText, NumbersThatATemplateWouldRenderOtherwiseAreRefused) {
  const RowTemplate chat = turns("{% for m in messages %}{{ m.id }}{% endfor %}");
  const auto row = [](const char* id) {
    return fmt::format(R"({{"messages": [{{"role": "assistant", "content": "a", "id": {}}}]}})", id);
  };
  EXPECT_EQ(render_row(row("9223372036854775807").c_str(), &chat).full.text, "9223372036854775807");
  EXPECT_EQ(render_row(row("1.5e10").c_str(), &chat).full.text, "15000000000.0");
  for (const char* id : {"9223372036854775808", "18446744073709551616", "-9223372036854775809"})
    expect_contains(message_of<DataError>([&] { render_row(row(id).c_str(), &chat); }), {"63 bits", "as text"});
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
