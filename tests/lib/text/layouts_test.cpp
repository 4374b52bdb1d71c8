// Every layout of rows: the text of each used column is in the tokens, the answers are trained, no header is, and a
// column that is not used is listed.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "lib/base/check.hpp"
#include "lib/text/example.hpp"
#include "lib/text/pair.hpp"
#include "tests/io/huggingface/byte_tokenizer.hpp"

namespace plumb {
namespace {

using json = nlohmann::ordered_json;

constexpr const char* kWhere = "row 0";

struct Layout {
  const char* name;
  const char* row;      // a word of a used column is a letter in upper case and a digit: A and B are answers
  const char* columns;  // --columns
  std::vector<std::string> dropped;
};

const std::vector<Layout> kSftLayouts = {
    {"text", R"({"text": "A1"})", "", {}},
    {"prompt and completion", R"({"prompt": "Q1", "completion": "A1"})", "", {}},
    {"prompt, completion and a system text of no place",
     R"({"prompt": "Q1", "completion": "A1", "system": "x"})",
     "",
     {"system"}},
    {"prompt, completion and the system text of --columns",
     R"({"prompt": "Q1", "completion": "A1", "sys": "S1"})",
     "system=sys",
     {}},
    {"messages and completion",
     R"({"prompt": [{"role": "user", "content": "Q1"}], "completion": [{"role": "assistant", "content": "A1"}]})",
     "",
     {}},
    {"one turn each",
     R"({"prompt": {"role": "user", "content": "Q1"}, "completion": {"role": "assistant", "content": "A1"}})",
     "",
     {}},
    {"messages and text", R"({"prompt": [{"role": "user", "content": "Q1"}], "completion": "A1"})", "", {}},
    {"text and messages",
     R"({"prompt": "Q1", "completion": [{"from": "gpt", "value": "A1"}], "system": "S1"})",
     "",
     {}},
    {"messages",
     R"({"messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}, {"role": "user", "content": "Q2"}, {"role": "assistant", "content": "A2"}]})",
     "",
     {}},
    {"messages beside a copy of the prompt",
     R"({"prompt": "Q1", "messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]})",
     "",
     {}},
    {"conversations, system, tools of none",
     R"({"conversations": [{"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1"}], "system": "S1", "tools": ""})",
     "",
     {}},
    {"conversations of other names",
     R"({"dialog": [{"from": "human", "value": "Q1"}, {"from": "gpt", "value": "A1"}], "persona": "S1", "weight": 3})",
     "messages=dialog,system=persona",
     {"weight"}},
    {"messages and answers of pairs",
     R"({"messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}], "chosen": "x", "rejected": "y"})",
     "",
     {"chosen", "rejected"}},
    {"instruction",
     R"({"instruction": "Q1", "input": "P1", "output": "A1", "system": "S1", "history": [["H1", "H2"], ["H3", "H4"]]})",
     "",
     {}},
    {"instruction without text", R"({"instruction": null, "input": "P1", "output": "A1"})", "", {}},
    {"instruction beside its rendered copy",
     R"({"instruction": "Q1", "input": "", "output": "A1", "text": "Q1 A1", "label": 0})",
     "",
     {"label"}},
    {"question", R"({"question": "Q1", "answer": "A1", "system": "S1", "history": [["H1", "H2"]]})", "", {}},
    {"query and response",
     R"({"query": "Q1", "response": "A1", "context": "P1"})",
     "instruction=query,output=response,input=context",
     {}},
};

const std::vector<Layout> kPairLayouts = {
    {"whole texts", R"({"chosen": "Q1 A1", "rejected": "Q1 B1"})", "", {}},
    {"prompt and texts", R"({"prompt": "Q1", "chosen": "A1", "rejected": "B1", "margin": 2})", "", {}},
    {"prompt, texts and a system text of no place",
     R"({"prompt": "Q1", "chosen": "A1", "rejected": "B1", "system": "x"})",
     "",
     {"system"}},
    {"prompt, texts and the system text of --columns",
     R"({"prompt": "Q1", "chosen": "A1", "rejected": "B1", "sys": "S1"})",
     "system=sys",
     {}},
    {"prompt and lists of one turn",
     R"({"prompt": "Q1", "chosen": [{"role": "assistant", "content": "A1"}], "rejected": [{"role": "assistant", "content": "B1"}], "system": "S1"})",
     "",
     {}},
    {"prompt and single turns",
     R"({"prompt": "Q1", "chosen": {"from": "gpt", "value": "A1"}, "rejected": {"from": "gpt", "value": "B1"}})",
     "",
     {}},
    {"messages as prompt",
     R"({"prompt": [{"role": "system", "content": "S1"}, {"role": "user", "content": "Q1"}], "chosen": [{"role": "assistant", "content": "A1"}], "rejected": [{"role": "assistant", "content": "B1"}]})",
     "",
     {}},
    {"messages as prompt, texts",
     R"({"prompt": [{"role": "user", "content": "Q1"}], "chosen": "A1", "rejected": "B1"})",
     "",
     {}},
    {"messages as prompt, whole conversations",
     R"({"prompt": [{"role": "user", "content": "Q1"}], "chosen": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}], "rejected": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "B1"}]})",
     "",
     {}},
    {"whole conversations",
     R"({"chosen": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}], "rejected": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "B1"}], "system": "S1"})",
     "",
     {}},
    {"whole conversations and copies",
     R"({"prompt": "Q1", "messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}], "chosen": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}], "rejected": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "B1"}], "score_chosen": 5})",
     "",
     {}},
    {"messages and single turns",
     R"({"messages": [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "H1"}, {"role": "user", "content": "Q2"}], "chosen": {"role": "assistant", "content": "A1"}, "rejected": {"role": "assistant", "content": "B1"}, "images": []})",
     "",
     {}},
    {"conversations and lists",
     R"({"conversations": [{"from": "human", "value": "Q1"}], "chosen": [{"from": "gpt", "value": "A1"}], "rejected": [{"from": "gpt", "value": "B1"}], "history": [["H1", "H2"]], "kto_tag": true})",
     "",
     {"kto_tag"}},
    {"conversations and texts",
     R"({"conversations": [{"from": "human", "value": "Q1"}], "chosen": "A1", "rejected": "B1"})",
     "",
     {}},
    {"question, system and texts", R"({"system": "S1", "question": "Q1", "chosen": "A1", "rejected": "B1"})", "", {}},
    {"instruction, input and texts",
     R"({"instruction": "Q1", "input": "P1", "chosen": "A1", "rejected": "B1"})",
     "",
     {}},
    {"names of --columns", R"({"ask": "Q1", "good": "A1", "bad": "B1"})", "question=ask,chosen=good,rejected=bad", {}},
};

Tokenizer byte_tokenizer() {
  return Tokenizer::from_json(byte_tokenizer_json(), R"({"bos_token": "<s>", "eos_token": "</s>"})");
}

/// A header begins with <s>.
RowTemplate turns() {
  return {
      ChatTemplate::from_jinja("{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}"
                               "{% if add_generation_prompt %}<s>assistant:{% endif %}",
                               "<s>", "</s>")};
}

void collect(const json& value, std::vector<std::string>& texts) {
  if (value.is_string()) texts.push_back(value.get<std::string>());
  if (value.is_structured())
    for (const json& part : value) collect(part, texts);
}

/// The words of used columns: a letter in upper case and a digit.
std::vector<std::string> words_of(const json& row, const RowFormat& format) {
  std::vector<std::string> words;
  for (const auto& [role, column] : format.columns) {
    std::vector<std::string> texts;
    if (row.contains(column)) collect(row.at(column), texts);
    for (const std::string& text : texts)
      for (size_t at = 0; at + 1 < text.size(); ++at)
        if (std::isupper(text[at]) != 0 && std::isdigit(text[at + 1]) != 0) words.push_back(text.substr(at, 2));
  }
  return words;
}

void expect_holds(const std::vector<std::string>& words, const std::vector<int32_t>& ids,
                  const std::vector<uint8_t>& mask, bool has_headers, char other_answer) {
  const Tokenizer tokenizer = byte_tokenizer();
  std::vector<int32_t> trained;
  for (size_t i = 0; i < ids.size(); ++i)
    if (mask[i] != 0) trained.push_back(ids[i]);
  const std::string all = tokenizer.decode(ids), learned = tokenizer.decode(trained);
  if (has_headers) {
    EXPECT_EQ(std::count(trained.begin(), trained.end(), kBosId), 0) << all;
  }
  for (const std::string& word : words) {
    const bool is_answer = word[0] == 'A' || word[0] == 'B';
    if (word[0] == other_answer) continue;
    EXPECT_NE(all.find(word), std::string::npos) << word << " in " << all;
    EXPECT_EQ(learned.find(word) != std::string::npos, is_answer) << word << " in " << learned;
  }
}

TEST(Layouts, RowsToFineTuneOnMeanWhatTheirColumnsSay) {
  const RowTemplate chat = turns();
  for (const Layout& layout : kSftLayouts) {
    SCOPED_TRACE(layout.name);
    const json row = json::parse(layout.row);
    const RowFormat format = find_row_format(row, parse_columns_option(layout.columns), kWhere, RowUse::kSft);
    EXPECT_EQ(format.dropped_columns, layout.dropped);
    SftOptions options;
    options.assistant_only_loss = format.shape == RowShape::kMessages;
    const SftExample example = tokenize_sft(render_sft(row, format, &chat, options, kWhere), byte_tokenizer(), options);
    const std::vector<std::string> words = words_of(row, format);
    EXPECT_FALSE(words.empty());
    expect_holds(words, example.token_ids, example.loss_mask, format.is_conversation, ' ');
  }
}

TEST(Layouts, PairsMeanWhatTheirColumnsSay) {
  const RowTemplate chat = turns();
  for (const Layout& layout : kPairLayouts) {
    SCOPED_TRACE(layout.name);
    const json row = json::parse(layout.row);
    const RowFormat format = find_row_format(row, parse_columns_option(layout.columns), kWhere, RowUse::kPreference);
    EXPECT_EQ(format.dropped_columns, layout.dropped);
    const PairExample pair = tokenize_pair(render_pair(row, format, &chat, {}, kWhere), byte_tokenizer(), {});
    EXPECT_EQ(pair.drop_reason, PairDropReason::kNone);
    const auto expect_answer = [&](const std::vector<int32_t>& ids, char other_answer) {
      std::vector<uint8_t> mask(ids.size(), 1);
      std::fill_n(mask.begin(), pair.prompt_length, uint8_t{0});
      expect_holds(words_of(row, format), ids, mask, format.is_conversation, other_answer);
    };
    expect_answer(pair.chosen, 'B');
    expect_answer(pair.rejected, 'A');
  }
}

}  // namespace
}  // namespace plumb
