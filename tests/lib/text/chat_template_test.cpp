#include "lib/text/chat_template.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "lib/text/assistant_turns.hpp"
#include "lib/text/turns.hpp"

namespace plumb {
namespace {

const std::vector<Message> kTwoTurns = {
    {"system", "Be brief."}, {"user", "2+2?"}, {"assistant", "4"}, {"user", "And 3?"}, {"assistant", "12"}};

std::string render_named(std::string_view name, std::span<const Message> messages,
                         bool adds_generation_prompt = false) {
  return ChatTemplate::named(name, "<s>", "</s>").render(messages, adds_generation_prompt).text;
}

TEST(ChatTemplate, ChatmlMarksTurnsWithImStartAndImEnd) {
  EXPECT_EQ(render_named("chatml", std::span(kTwoTurns).first(2), true),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, Llama2PutsTheSystemTextIntoTheFirstTurn) {
  EXPECT_EQ(render_named("llama2", kTwoTurns),
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n2+2? [/INST] 4 </s><s>[INST] And 3? [/INST] 12 </s>");
}

TEST(ChatTemplate, Llama3NamesRolesInHeaders) {
  EXPECT_EQ(
      render_named("llama3", std::span(kTwoTurns).first(2), true),
      "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
      "2+2?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, MistralEndsAnswersWithEos) {
  EXPECT_EQ(render_named("mistral", kTwoTurns), "<s>[INST] Be brief.\n\n2+2?[/INST] 4</s>[INST] And 3?[/INST] 12</s>");
}

TEST(ChatTemplate, ZephyrEndsEveryTurnWithEos) {
  EXPECT_EQ(render_named("zephyr", std::span(kTwoTurns).subspan(1, 2), true),
            "<|user|>\n2+2?</s>\n<|assistant|>\n4</s>\n<|assistant|>\n");
}

TEST(ChatTemplate, AlpacaSystemMessageReplacesThePreamble) {
  const std::vector<Message> plain = {{"user", "Add 2 and 2."}, {"assistant", "4"}};
  const std::vector<Message> with_input = {{"user", "Add."}, {"input", "2 2"}, {"assistant", "4"}};
  EXPECT_EQ(
      render_named("alpaca", plain),
      "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
      "### Instruction:\nAdd 2 and 2.\n\n### Response:\n4</s>");
  EXPECT_EQ(
      render_named("alpaca", with_input),
      "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
      "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n2 2\n\n### "
      "Response:\n4</s>");
  EXPECT_EQ(render_named("alpaca", kTwoTurns),
            "Be brief.\n\n### Instruction:\n2+2?\n\n### Response:\n4</s>\n\n### Instruction:\nAnd 3?\n\n### "
            "Response:\n12</s>");
}

TEST(ChatTemplate, InstructgptIsPlainText) {
  EXPECT_EQ(render_named("instructgpt", kTwoTurns),
            "Be brief.\n\nQuestion: 2+2?\n\nAnswer: 4</s>\n\nQuestion: And 3?\n\nAnswer: 12</s>");
  EXPECT_EQ(render_named("instructgpt", std::span(kTwoTurns).first(2), true), "Be brief.\n\nQuestion: 2+2?\n\nAnswer:");
}

TEST(ChatTemplate, NamedTemplatesKeepPrefixes) {
  for (const std::string& name : template_names()) {
    const std::string whole = render_named(name, kTwoTurns);
    for (const size_t num_prompt : {2, 4}) {
      const std::string prompt = render_named(name, std::span(kTwoTurns).first(num_prompt), true);
      const std::string turn = render_named(name, std::span(kTwoTurns).first(num_prompt + 1));
      EXPECT_TRUE(turn.starts_with(prompt)) << name << "\n" << prompt << "\n" << turn;
      EXPECT_TRUE(whole.starts_with(turn)) << name << "\n" << turn << "\n" << whole;
      EXPECT_GT(turn.size(), prompt.size()) << name;
    }
  }
}

TEST(ChatTemplate, UserRangesAreTheContentsOfMessages) {
  for (const std::string& name : template_names()) {
    const MarkedText marked = ChatTemplate::named(name, "<s>", "</s>").render(kTwoTurns, true);
    std::string user_text;
    size_t end = 0;
    for (const ByteRange& range : marked.user_ranges) {
      EXPECT_LT(range.begin, range.end);
      EXPECT_TRUE(end == 0 || end < range.begin);
      end = range.end;
      user_text += marked.text.substr(range.begin, range.end - range.begin) + ";";
    }
    EXPECT_EQ(user_text, "Be brief.;2+2?;4;And 3?;12;") << name;
  }
}

TEST(ChatTemplate, ControlTokensInContentAreUserText) {
  const std::vector<Message> messages = {{"user", "a<|im_end|>b"}};
  const MarkedText marked = ChatTemplate::named("chatml", "", "").render(messages, false);
  ASSERT_EQ(marked.user_ranges.size(), 1u);
  EXPECT_EQ(marked.text.substr(marked.user_ranges[0].begin), "a<|im_end|>b<|im_end|>\n");
  EXPECT_EQ(marked.user_ranges[0].end - marked.user_ranges[0].begin, 12u);
}

TEST(ChatTemplate, OnlyKnownRolesAreTemplateText) {
  const std::vector<Message> messages = {{"<|im_start|>", "x"}, {"tool", "y"}};
  const MarkedText marked = ChatTemplate::named("chatml", "", "").render(messages, false);
  ASSERT_EQ(marked.user_ranges.size(), 3u);
  EXPECT_EQ(marked.user_ranges[0].begin, 12u);
  EXPECT_EQ(marked.user_ranges[0].end, 24u);
}

TEST(ChatTemplate, EmptyTokensRenderNothing) {
  EXPECT_EQ(ChatTemplate::named("mistral", "", "").render(std::span(kTwoTurns).subspan(1, 2), false).text,
            "[INST] 2+2?[/INST] 4");
}

TEST(ChatTemplate, TurnsOutOfOrderAreRefused) {
  const std::vector<Message> twice = {{"user", "a"}, {"user", "b"}};
  for (const std::string_view name : {"llama2", "mistral"}) {
    try {
      render_named(name, twice);
      ADD_FAILURE() << name;
    } catch (const DataError& error) {
      EXPECT_NE(std::string_view(error.what()).find("expected the role 'assistant', found 'user'"),
                std::string_view::npos)
          << error.what();
    }
  }
  EXPECT_THROW(render_named("instructgpt", std::vector<Message>{{"robot", "a"}}), DataError);
}

TEST(ChatTemplate, ReportsWhetherBosIsRendered) {
  for (const std::string& name : template_names()) {
    const ChatTemplate chat = ChatTemplate::named(name, "<s>", "</s>");
    EXPECT_EQ(chat.renders_special_tokens(), chat.render(kTwoTurns, false).text.starts_with("<s>")) << name;
  }
  EXPECT_TRUE(ChatTemplate::from_jinja("x", "", "").renders_special_tokens());
}

TEST(ChatTemplate, UnknownNameListsKnownAndNearest) {
  try {
    ChatTemplate::named("lama3", "", "");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_EQ(
        std::string(error.what()),
        "chat template 'lama3' is unknown; known: chatml, llama2, llama3, mistral, zephyr, alpaca, instructgpt; did "
        "you mean 'llama3'?");
  }
}

TEST(ChatTemplate, JinjaSeesTheVariablesOfTransformers) {
  const auto render = [](std::string_view source, std::string bos, bool adds_generation_prompt) {
    return ChatTemplate::from_jinja(source, std::move(bos), "</s>").render(kTwoTurns, adds_generation_prompt).text;
  };
  EXPECT_EQ(render("{{ bos_token + eos_token }}{{ messages|length }}{{ tools is none }}{{ documents is none }}{{ xtra "
                   "is defined }}",
                   "<s>", false),
            "<s></s>5TrueTrueFalse");
  EXPECT_EQ(render("{% if add_generation_prompt %}yes{% endif %}", "", true), "yes");
  EXPECT_EQ(render("{{ bos_token is defined }}", "", true), "False");
  EXPECT_EQ(render("{% for m in messages[1:] %}{{ m['role'] }}:{{ m.content }};{% endfor %}", "", false),
            "user:2+2?;assistant:4;user:And 3?;assistant:12;");
}

TEST(ChatTemplate, JinjaErrorsAreDataErrors) {
  EXPECT_THROW(ChatTemplate::from_jinja("{% if %}", "", ""), DataError);
  const ChatTemplate refuses = ChatTemplate::from_jinja("{{ raise_exception('no') }}", "", "");
  EXPECT_THROW(refuses.render(kTwoTurns, false), DataError);
}

std::vector<std::string> trained_pieces(const char* source, const char* messages_json) {
  const ChatTemplate chat = ChatTemplate::from_jinja(source, "<s>", "</s>").for_training();
  const std::vector<Message> messages = parse_turns(nlohmann::ordered_json::parse(messages_json), "row");
  const RenderedChat rendered = chat.render_parts(messages, false);
  std::vector<std::string> pieces;
  for (const ByteRange& range : find_assistant_turns(chat, messages, {}, rendered, "row").trained)
    pieces.push_back(rendered.text.text.substr(range.begin, range.end - range.begin));
  return pieces;
}

TEST(TrainingTemplate, OfDeepSeekTakesArgumentsAsDictsAndTrainsHeaders) {
  const char* const source =
      "{% set ns = namespace(tool=false) %}{% for m in messages %}{% if m.role == 'user' %}<|User|>{{ m.content }}"
      "{% elif m.role == 'tool' %}{% set ns.tool = true %}<out>{{ m.content }}{% elif m.tool_calls %}"
      "{% for tool in m.tool_calls %}{{ '<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['function']['arguments'] + "
      "'<e>' }}"
      "{% endfor %}{% elif ns.tool %}<｜tool▁outputs▁end｜>{{ m.content }}<e>{% set ns.tool = false %}{% else "
      "%}<｜Assistant｜>{{ m.content "
      "}}<e>"
      "{% endif %}{% endfor %}{% if ns.tool %}<｜tool▁outputs▁end｜>{% endif %}"
      "{% if add_generation_prompt and not ns.tool %}<｜Assistant｜>{% endif %}";
  const auto conversation = [](const std::string& arguments) {
    return R"([{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": )" +
           arguments + R"(}}]}, {"role": "tool", "content": "1"}, {"role": "assistant", "content": "ok"}])";
  };
  const std::vector<std::string> expected = {"<｜Assistant｜><｜tool▁calls▁begin｜>{\"a\": 1}<e>",
                                             "<｜tool▁outputs▁end｜>ok<e>"};
  EXPECT_EQ(trained_pieces(source, conversation(R"({"a": 1})").c_str()), expected);
  EXPECT_EQ(trained_pieces(source, conversation(R"("{\"a\": 1}")").c_str()), expected);
}

TEST(TrainingTemplate, ABlankAfterATurnBeginsTheNext) {
  const char* const source =
      "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s> "
      "{% endif %}{% endfor %}";
  EXPECT_EQ(trained_pieces(source, R"([{"role": "user", "content": "1"}, {"role": "assistant", "content": "2> "},
                                       {"role": "user", "content": "3"}, {"role": "assistant", "content": "4"}])"),
            (std::vector<std::string>{" 2> </s>", " 4</s>"}));
}

}  // namespace
}  // namespace plumb
