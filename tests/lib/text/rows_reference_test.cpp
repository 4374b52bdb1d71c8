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

}  // namespace
}  // namespace plumb
