#include "apps/preference/prompts.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/huggingface/init_model.hpp"
#include "lib/base/check.hpp"
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

}  // namespace
}  // namespace plumb
