#include "apps/preference/prompts.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "apps/models/model_text.hpp"
#include "apps/preference/row_prompts.hpp"
#include "io/huggingface/init_model.hpp"
#include "lib/base/check.hpp"
#include "lib/text/own_template.hpp"
#include "lib/text/pair.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

Tokenizer byte_tokenizer(const char* template_name) {
  const NewTokenizer made = make_byte_level_tokenizer(template_name);
  return Tokenizer::from_json(made.files[0].content, made.files[1].content);
}

ModelConfig config_of(int64_t max_positions) {
  ModelConfig config;
  config.max_position_embeddings = max_positions;
  return config;
}

constexpr int32_t kTurnStart = 257;

TEST(MakePrompt, IsTheTextItselfWithoutATemplate) {
  const Tokenizer tokenizer = byte_tokenizer("");
  const Prompt prompt = make_prompt("ab", "", {}, tokenizer, config_of(100));
  EXPECT_EQ(prompt.text, "ab");
  EXPECT_EQ(prompt.token_ids, (std::vector<int32_t>{'a', 'b'}));
  EXPECT_THROW(make_prompt("ab", "system", {}, tokenizer, config_of(100)), UsageError);
}

TEST(MakePrompt, UsesTheModelsOrTheNamedTemplate) {
  const Tokenizer tokenizer = byte_tokenizer("chatml");
  const Prompt own = make_prompt("ab", "be", {}, tokenizer, config_of(100));
  EXPECT_EQ(own.text, "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(own.token_ids[0], kTurnStart);
  const Prompt named =
      make_prompt("ab", "", {.columns = "", .chat_template = "instructgpt"}, tokenizer, config_of(100));
  EXPECT_EQ(named.text, "Question: ab\n\nAnswer:");
}

TEST(MakePrompt, TemplatesSeeOptions) {
  PromptOptions options;
  options.chat_template_kwargs = R"({"add_generation_prompt": true})";
  EXPECT_THROW(make_prompt("ab", "", options, byte_tokenizer("chatml"), config_of(100)), UsageError);
  options.chat_template_kwargs = R"({"depth": 1})";
  EXPECT_EQ(make_prompt("ab", "", options, byte_tokenizer("chatml"), config_of(100)).token_ids[0], kTurnStart);
  EXPECT_THROW(make_prompt("ab", "", options, byte_tokenizer(""), config_of(100)), UsageError);
}

TEST(MakePrompt, ControlTokensOfTheUserAreTextUnlessAsked) {
  const Tokenizer tokenizer = byte_tokenizer("");
  EXPECT_EQ(make_prompt("<|im_start|>", "", {}, tokenizer, config_of(100)).token_ids.size(), 12u);
  PromptOptions options;
  options.parses_special_tokens = true;
  EXPECT_EQ(make_prompt("<|im_start|>", "", options, tokenizer, config_of(100)).token_ids,
            std::vector<int32_t>{kTurnStart});
}

TEST(MakePrompt, RefusesPromptsLongerThanTheModel) {
  const Tokenizer tokenizer = byte_tokenizer("");
  EXPECT_NO_THROW(make_prompt("abc", "", {}, tokenizer, config_of(4)));
  EXPECT_THROW(make_prompt("abcd", "", {}, tokenizer, config_of(4)), DataError);
  EXPECT_THROW(make_prompt("a\xFF", "", {}, tokenizer, config_of(4)), DataError);
}

std::vector<std::string> prompts_of(const std::string& rows, const PromptOptions& options = {},
                                    const char* template_name = "", const char* file_name = "rows.jsonl") {
  const TemporaryDirectory directory;
  const Tokenizer tokenizer = byte_tokenizer(template_name);
  const ModelConfig config = config_of(1000);
  PromptReader reader(directory.write(file_name, rows), options, tokenizer, config);
  std::vector<std::string> texts;
  while (const auto prompt = reader.next()) texts.push_back(prompt->text);
  return texts;
}

using Texts = std::vector<std::string>;

TEST(PromptReader, PlainPromptsAndTextsStayAsTheyAre) {
  EXPECT_EQ(prompts_of("{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"completion\": \"c\"}\n"), (Texts{"a", "b"}));
  EXPECT_EQ(prompts_of("{\"text\": \"a b\"}\n", {}, "chatml"), Texts{"a b"});
}

TEST(PromptReader, RowsNeedNoAnswer) {
  const std::string expected = "Question: a\n\nAnswer:";
  EXPECT_EQ(prompts_of("{\"question\": \"a\"}\n"), Texts{expected});
  EXPECT_EQ(prompts_of("{\"question\": \"a\", \"answer\": \"b\"}\n"), Texts{expected});
  EXPECT_EQ(prompts_of("question,answer\na,b\n", {}, "", "rows.csv"), Texts{expected});
  EXPECT_EQ(prompts_of("{\"frage\": \"a\"}\n", {.columns = "question=frage", .chat_template = ""}), Texts{expected});
}

TEST(PromptReader, ConversationsEndBeforeTheAssistantsLastTurn) {
  const std::string expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
  const std::string user = R"({"role": "user", "content": "a"})",
                    assistant = R"({"role": "assistant", "content": "b"})";
  EXPECT_EQ(prompts_of("{\"messages\": [" + user + "," + assistant + "]}\n", {}, "chatml"), Texts{expected});
  EXPECT_EQ(prompts_of("{\"messages\": [" + user + "]}\n", {}, "chatml"), Texts{expected});
  EXPECT_EQ(prompts_of("{\"prompt\": [" + user + "]}\n", {}, "chatml"), Texts{expected});
  EXPECT_EQ(prompts_of(R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})"
                       "\n",
                       {}, "chatml"),
            Texts{expected});
}

TEST(PromptReader, BadRowsAreNamed) {
  EXPECT_NE(
      message_of<DataError>([] { prompts_of("{\"question\": \"a\"}\n{\"question\": 5}\n"); }).find("rows.jsonl:2"),
      std::string::npos);
  EXPECT_THROW(prompts_of("{\"messages\": [5]}\n", {}, "chatml"), DataError);
  EXPECT_THROW(prompts_of("{\"messages\": \"a\"}\n", {}, "chatml"), DataError);
  EXPECT_THROW(prompts_of("{\"question\": \"a\"}\n{\"messages\": []}\n"), DataError);
}

/// Compares the prompt that a model answers with the prompt of the pair that a run then writes down.
void expect_pairs_have_the_same_prompt(const std::string& rows, PromptForm form, const char* own_template,
                                       const std::string& chat_template) {
  const TemporaryDirectory directory;
  const Tokenizer tokenizer = byte_tokenizer(own_template);
  DataOptions data;
  data.chat_template = chat_template;
  const RowPrompts read = read_row_prompts({directory.write("rows.jsonl", rows)}, data, tokenizer, config_of(1000), -1);
  ASSERT_EQ(read.prompts.size(), 1u) << rows;
  const RowPrompt& prompt = read.prompts[0];
  EXPECT_EQ(name_of(prompt.form), name_of(form)) << rows;
  nlohmann::ordered_json pair = prompt.columns;
  pair["chosen"] = prompt.answer_cell("yes");
  pair["rejected"] = prompt.answer_cell("no");
  pair["source_row"] = 0;
  const RowFormat format = find_row_format(pair, {}, "", RowUse::kPreference);
  const auto row_template = choose_template(format, tokenizer, form == PromptForm::kText ? "" : chat_template);
  const PairExample example =
      tokenize_pair(render_pair(pair, format, row_template ? &*row_template : nullptr, {}, ""), tokenizer, {});
  ASSERT_EQ(example.prompt_length, std::ssize(prompt.token_ids)) << rows;
  EXPECT_TRUE(std::equal(prompt.token_ids.begin(), prompt.token_ids.end(), example.chosen.begin())) << rows;
}

TEST(RowPrompts, PairsOfThemHaveTheSamePrompt) {
  const std::string instruction = R"({"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]})";
  const std::string question = R"({"system": "s", "question": "a", "answer": "b"})";
  const auto expect_same = [](const std::string& rows, PromptForm form, const char* own, const std::string& name) {
    expect_pairs_have_the_same_prompt(rows, form, own, name);
  };
  expect_same(instruction, PromptForm::kInstruction, "", "");
  expect_same(instruction, PromptForm::kInstruction, "", "alpaca");
  expect_same(instruction, PromptForm::kInstruction, "alpaca", "");
  expect_same(instruction, PromptForm::kMessages, "chatml", "");
  expect_same(question, PromptForm::kQuestion, "", "");
  for (const char* name : {"chatml", "zephyr", "llama2", "mistral", "instructgpt"}) {
    expect_same(instruction, PromptForm::kMessages, "", name);
    expect_same(question, PromptForm::kMessages, "", name);
  }
  expect_same(R"({"prompt": "a", "completion": "b"})", PromptForm::kText, "", "");
}

TEST(RowPrompts, RowsOfOtherFormsAreRefused) {
  const TemporaryDirectory directory;
  const std::vector<std::string> files = {directory.write("a.jsonl", R"({"question": "a"})"),
                                          directory.write("b.jsonl", R"({"prompt": "a"})")};
  expect_contains(message_of<DataError>([&] { read_row_prompts(files, {}, byte_tokenizer(""), config_of(1000), -1); }),
                  {"b.jsonl", "question", "text"});
}

constexpr int32_t kEndOfText = 256, kTurnEnd = 258;

TEST(EndIds, AreThoseOfAllFilesAndOfTheTemplate) {
  const TemporaryDirectory model, adapter;
  ModelConfig config = config_of(8);
  config.eos_token_ids = {7};
  const Tokenizer tokenizer = byte_tokenizer("");
  const TokenizerSource source = {model.path(), adapter.path()};
  const auto ends = [&](const char* name) { return end_ids(source, config, tokenizer, name); };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(ends(""), (Ids{7, kEndOfText}));
  model.write("generation_config.json", R"({"eos_token_id": [7, 8]})");
  adapter.write("generation_config.json", R"({"eos_token_id": 9})");
  EXPECT_EQ(ends("zephyr"), (Ids{7, 8, 9, kEndOfText}));
  EXPECT_EQ(ends("chatml"), (Ids{7, 8, 9, kEndOfText, kTurnEnd}));
  EXPECT_EQ(end_ids({model.path()}, config, byte_tokenizer("chatml"), ""), (Ids{7, 8, kTurnEnd}));
  model.write("generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_THROW(ends(""), DataError);
}

TEST(ExportedText, HasTheNamedTemplateAndItsEnd) {
  const TemporaryDirectory model;
  for (const TextFile& file : make_byte_level_tokenizer("").files) model.write(file.name, file.content);
  const ExportedText plain = exported_text({model.path()}, load_tokenizer(model.path()), std::nullopt);
  EXPECT_EQ(plain.eos_id, kEndOfText);
  EXPECT_FALSE(plain.turn_end);
  const TokenizerSource source = {model.path(), "", "<|im_start|>"};
  const ExportedText named = exported_text(source, load_tokenizer(source), "chatml");
  EXPECT_EQ(named.eos_id, kTurnStart);
  EXPECT_EQ(named.turn_end, kTurnEnd);
  EXPECT_TRUE(is_own_form_of("chatml", named.chat_template));
  EXPECT_EQ(template_of_rows({"alpaca"}), "alpaca");
  EXPECT_EQ(template_of_rows({"alpaca", "instructgpt"}), std::nullopt);
}

}  // namespace
}  // namespace plumb
