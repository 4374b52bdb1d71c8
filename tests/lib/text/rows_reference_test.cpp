// Rows as people have them, through the tokenizers and chat templates of public models: what is trained, between [[ and
// ]], is what TRL trains.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/text/example.hpp"
#include "lib/text/pair.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr const char* kWhere = "row 0";

Tokenizer qwen2_5() {
  return Tokenizer::from_json(test::reference_text("tokenizers/qwen2.5/tokenizer.json"),
                              test::reference_text("tokenizers/qwen2.5/tokenizer_config.json"));
}

/// Another template, for the same tokens.
Tokenizer qwen2_5_with(const std::string& chat_template) {
  json config = test::reference_json("tokenizers/qwen2.5/tokenizer_config.json");
  config["chat_template"] = chat_template;
  return Tokenizer::from_json(test::reference_text("tokenizers/qwen2.5/tokenizer.json"), config.dump());
}

std::string qwen3_template() { return test::reference_json("chat/qwen3.json").at("chat_template"); }

json turn(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

const std::string kQwenSystem =
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n";

std::string marked(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const std::vector<uint8_t>& loss_mask) {
  std::string text;
  for (size_t begin = 0, end = 0; begin < ids.size(); begin = end) {
    while (end < ids.size() && loss_mask[end] == loss_mask[begin]) ++end;
    const std::string part = tokenizer.decode(std::span(ids).subspan(begin, end - begin));
    text += loss_mask[begin] ? "[[" + part + "]]" : part;
  }
  return text;
}

std::string sft(const Tokenizer& tokenizer, const json& row, bool assistant_only_loss = false) {
  SftOptions options;
  options.assistant_only_loss = assistant_only_loss;
  const RowFormat format = find_row_format(row, {}, kWhere, RowUse::kSft);
  const std::optional<RowTemplate> chat = choose_template(format, tokenizer);
  const SftExample example =
      tokenize_sft(render_sft(row, format, chat ? &*chat : nullptr, options, kWhere), tokenizer, options);
  return marked(tokenizer, example.token_ids, example.loss_mask);
}

/// Chosen and rejected.
std::vector<std::string> pair(const Tokenizer& tokenizer, const json& row) {
  const RowFormat format = find_row_format(row, {}, kWhere, RowUse::kPreference);
  const std::optional<RowTemplate> chat = choose_template(format, tokenizer);
  const PairExample example =
      tokenize_pair(render_pair(row, format, chat ? &*chat : nullptr, {}, kWhere), tokenizer, {});
  std::vector<std::string> texts;
  for (const std::vector<int32_t>* ids : {&example.chosen, &example.rejected}) {
    std::vector<uint8_t> mask(ids->size(), 1);
    std::fill_n(mask.begin(), example.prompt_length, uint8_t{0});
    texts.push_back(marked(tokenizer, *ids, mask));
  }
  return texts;
}

TEST(Rows, ThePromptEndsWhereTokensDiffer) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5();
  const auto row = [](const char* prompt, const char* completion) {
    return json{{"prompt", prompt}, {"completion", completion}};
  };
  EXPECT_EQ(sft(tokenizer, row("A green parr", "ot")), "A green[[ parrot<|im_end|>]]");
  EXPECT_EQ(sft(tokenizer, row("Two and two? ", "four")), "Two and two?[[ four<|im_end|>]]");
  EXPECT_EQ(sft(tokenizer, row("Run it as self.", "start()")), "Run it as self[[.start()<|im_end|>]]");
  EXPECT_EQ(pair(tokenizer, {{"prompt", "Two and two? "}, {"chosen", "four"}, {"rejected", "five"}}),
            (std::vector<std::string>{"Two and two?[[ four<|im_end|>]]", "Two and two?[[ five<|im_end|>]]"}));
}

TEST(Rows, PairsAnswerTheConversationBesideThem) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5();
  const std::string prompt =
      kQwenSystem + "<|im_start|>user\nWhich is the longest river?<|im_end|>\n<|im_start|>assistant\n";
  const std::vector<std::string> expected = {prompt + "[[The Nile.<|im_end|>\n]]",
                                             prompt + "[[The Rhine.<|im_end|>\n]]"};
  const json asked = turn("user", "Which is the longest river?");
  const json nile = turn("assistant", "The Nile."), rhine = turn("assistant", "The Rhine.");
  const auto sharegpt = [](const char* from, const char* value) { return json{{"from", from}, {"value", value}}; };
  EXPECT_EQ(pair(tokenizer, {{"messages", {asked}}, {"chosen", nile}, {"rejected", rhine}}), expected);
  EXPECT_EQ(pair(tokenizer, {{"messages", {asked}}, {"chosen", {nile}}, {"rejected", {rhine}}}), expected);
  EXPECT_EQ(pair(tokenizer, {{"conversations", {sharegpt("human", "Which is the longest river?")}},
                             {"chosen", sharegpt("gpt", "The Nile.")},
                             {"rejected", sharegpt("gpt", "The Rhine.")}}),
            expected);
  EXPECT_EQ(pair(tokenizer, {{"prompt", "Which is the longest river?"}, {"chosen", {nile}}, {"rejected", {rhine}}}),
            expected);
  EXPECT_EQ(pair(tokenizer,
                 {{"prompt", "Which is the longest river?"}, {"chosen", {asked, nile}}, {"rejected", {asked, rhine}}}),
            expected);
}

TEST(Rows, ASystemColumnIsASystemTurn) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5();
  for (const char* tools : {"[]", "", "null"}) {
    json row = {{"conversations", {{{"from", "human"}, {"value", "And west?"}}, {{"from", "gpt"}, {"value", "Left."}}}},
                {"system", "You are a pilot."},
                {"tools", tools}};
    if (row["tools"] == "null") row["tools"] = nullptr;
    EXPECT_EQ(sft(tokenizer, row, true),
              "<|im_start|>system\nYou are a pilot.<|im_end|>\n<|im_start|>user\nAnd west?<|im_end|>\n"
              "<|im_start|>assistant[[\nLeft.<|im_end|>\n]]");
  }
}

TEST(Rows, TurnsMarkedAsUntrainedStayInTheText) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  json bad = turn("assistant", "Basalt.");
  bad["weight"] = 0;
  EXPECT_EQ(sft(qwen2_5(),
                {{"messages", {turn("user", "A fish?"), bad, turn("user", "No."), turn("assistant", "Carp.")}}}, true),
            kQwenSystem +
                "<|im_start|>user\nA fish?<|im_end|>\n<|im_start|>assistant\nBasalt.<|im_end|>\n<|im_start|>user\n"
                "No.<|im_end|>\n<|im_start|>assistant[[\nCarp.<|im_end|>\n]]");
}

TEST(Rows, CallsOfToolsAreTrainedAndTheirResultsAreNot) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json row = {{"conversations",
                     {{{"from", "human"}, {"value", "Time in Rome?"}},
                      {{"from", "function_call"}, {"value", R"({"name": "clock", "arguments": {"zone": "CET"}})"}},
                      {{"from", "observation"}, {"value", "12:00"}},
                      {{"from", "gpt"}, {"value", "Noon."}}}}};
  EXPECT_EQ(
      sft(qwen2_5(), row, true),
      kQwenSystem +
          "<|im_start|>user\nTime in Rome?<|im_end|>\n<|im_start|>assistant[[\n<tool_call>\n{\"name\": \"clock\", "
          "\"arguments\": {\"zone\": \"CET\"}}\n</tool_call><|im_end|>\n]]<|im_start|>user\n<tool_response>\n12:00\n"
          "</tool_response><|im_end|>\n<|im_start|>assistant[[\nNoon.<|im_end|>\n]]");
}

TEST(Rows, ThoughtsOfAllTurnsAreTrained) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5_with(qwen3_template());
  const json row = {{"messages",
                     {turn("user", "A fish?"), turn("assistant", "<think>\nwet\n</think>\n\nCarp."),
                      turn("user", "A bird?"), turn("assistant", "Owl.")}}};
  EXPECT_EQ(
      sft(tokenizer, row, true),
      "<|im_start|>user\nA fish?<|im_end|>\n<|im_start|>assistant\n[[<think>\nwet\n</think>\n\nCarp.<|im_end|>\n]]"
      "<|im_start|>user\nA bird?<|im_end|>\n<|im_start|>assistant\n[[<think>\n\n</think>\n\nOwl.<|im_end|>\n]]");
  // without the mask the text is the model's own
  EXPECT_EQ(sft(tokenizer, row),
            "[[<|im_start|>user\nA fish?<|im_end|>\n<|im_start|>assistant\nCarp.<|im_end|>\n<|im_start|>user\nA bird?"
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nOwl.<|im_end|>\n]]");
}

TEST(Rows, GenerationMarksHaveTheMasksOfTransformers) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const auto with_answer = [](const std::string& answer) {
    return qwen2_5_with("{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + answer +
                        "{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}");
  };
  const json row = {{"messages", {turn("user", "A fish?"), turn("assistant", "wet|Carp.")}}};
  const std::string begin = "<|im_start|>user\nA fish?<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(sft(with_answer("{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"), row, true),
            begin + "[[wet|Carp.<|im_end|>]]");
  EXPECT_EQ(sft(with_answer("{% set p = m.content.split('|') %}({{ p[0] }}){% generation %}{{ p[1] }}"
                            "{% endgeneration %}<|im_end|>\n"),
                row, true),
            begin + "(wet)[[Carp.]]<|im_end|>\n");
}

TEST(Rows, OptionsOfTheRowReachTheTemplate) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5_with("{% for m in messages %}{{ m.content }}{{ tone }};{% endfor %}");
  EXPECT_EQ(sft(tokenizer, {{"messages", {turn("user", "Hi")}}, {"chat_template_kwargs", {{"tone", "?"}}}}),
            "[[Hi?;]]");
}

TEST(Rows, AHeaderThatOpensAThoughtDoesNotHideTheAnswer) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = qwen2_5_with(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}");
  EXPECT_EQ(sft(tokenizer, {{"prompt", {turn("user", "A fish?")}}, {"completion", {turn("assistant", "Carp.")}}}),
            "<|im_start|>user\nA fish?<|im_end|><|im_start|>assistant\n[[Carp.<|im_end|>]]");
}

}  // namespace
}  // namespace plumb
