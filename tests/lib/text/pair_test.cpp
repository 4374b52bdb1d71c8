#include "lib/text/pair.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "tests/io/huggingface/byte_tokenizer.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

const char* const kWhere = "a.jsonl:7: row 6";

RowTemplate turns() {
  const char* source =
      "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}]{% endfor %}"
      "{% if add_generation_prompt %}[assistant:{% endif %}";
  return {ChatTemplate::from_jinja(source, "<s>", "</s>")};
}

PairText render_row(const json& row, const PairOptions& options = {}) {
  const RowTemplate chat = turns();
  return render_pair(row, find_row_format(row, {}, kWhere, RowUse::kPreference), &chat, options, kWhere);
}

PairText text_pair(const std::string& chosen, const std::string& rejected) {
  return render_row({{"chosen", chosen}, {"rejected", rejected}});
}

json turn(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

template <class Error>
std::string refusal(const json& first_row, const json& row) {
  const RowTemplate chat = turns();
  const std::string message =
      message_of<Error>([&] { render_pair(row, find_row_format(first_row, {}, kWhere), &chat, {}, kWhere); });
  EXPECT_TRUE(message.starts_with(kWhere)) << message;
  return message;
}

/// The ids of bytes; "</s>" is a control token.
Tokenizer byte_tokenizer() { return Tokenizer::from_json(byte_tokenizer_json(), R"({"eos_token": "</s>"})"); }

std::vector<int32_t> ids_of(const std::string& text, bool has_eos = true) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(byte_id(c));
  if (has_eos) ids.push_back(kEosId);
  return ids;
}

PairExample tokenize(const std::string& prompt, const std::string& chosen, const std::string& rejected,
                     const PairOptions& options = {}) {
  const json row = {{"prompt", prompt}, {"chosen", chosen}, {"rejected", rejected}};
  return tokenize_pair(render_row(row, options), byte_tokenizer(), options);
}

PairDropReason drop_reason(const std::string& prompt, const std::string& chosen, const std::string& rejected,
                           int64_t max_length, bool drops_long_pairs) {
  return tokenize(prompt, chosen, rejected, {max_length, drops_long_pairs, false}).drop_reason;
}

TEST(PairText, TextsArePromptPlusAnswer) {
  const PairText pair = render_row({{"prompt", "p<s>"}, {"chosen", "c"}, {"rejected", "rr"}});
  EXPECT_EQ(pair.prompt.text, "p<s>");
  EXPECT_EQ(pair.chosen.text, "p<s>c");
  EXPECT_EQ(pair.rejected.text, "p<s>rr");
  ASSERT_EQ(pair.rejected.user_ranges.size(), 1u);
  EXPECT_EQ(pair.rejected.user_ranges[0].end, 6u);
  EXPECT_TRUE(pair.appends_eos && pair.adds_special_tokens);
  EXPECT_FALSE(pair.margin || pair.has_empty_answer);
  EXPECT_TRUE(
      render_row({{"prompt", "p"}, {"chosen", "c"}, {"rejected", "r"}}, {8, false, true}).chosen.user_ranges.empty());
}

TEST(PairText, MissingPromptIsTheCommonPrefix) {
  EXPECT_EQ(text_pair("Q: a A: b", "Q: a A: c").prompt.text, "Q: a A:");  // the space belongs to the answers
  EXPECT_EQ(text_pair("Q  b", "Q  c").prompt.text, "Q ");                 // one space
  EXPECT_EQ(text_pair("Q:b", "Q:c").prompt.text, "Q:");
  EXPECT_EQ(text_pair("abc", "abcd").prompt.text, "ab");  // something is left of both
  EXPECT_EQ(text_pair("ab ", "ab cd").prompt.text, "ab");
  EXPECT_EQ(text_pair("abc", "abc").prompt.text, "ab");
  EXPECT_EQ(text_pair("b ", "c ").prompt.text, "");
  EXPECT_EQ(text_pair("", "c").prompt.text, "");
  EXPECT_TRUE(text_pair("", "c").has_empty_answer);
  const PairText pair = text_pair("Q: a A: b", "Q: a A: c");
  EXPECT_EQ(pair.chosen.text, "Q: a A: b");
  EXPECT_EQ(pair.rejected.text, "Q: a A: c");
}

TEST(PairText, ThePromptEndsBetweenCharacters) {
  EXPECT_EQ(text_pair("x\u00e9y", "x\u00e8y").prompt.text, "x");          // differ in their second byte
  EXPECT_EQ(text_pair("x\u20acy", "x\u20ady").prompt.text, "x");          // in their third
  EXPECT_EQ(text_pair("x \U0001F600", "x \U0001F601").prompt.text, "x");  // in their fourth, after a space
  EXPECT_EQ(text_pair("x\u00e9", "x\u00e9y").prompt.text, "x");           // nothing differs: one character back
  EXPECT_EQ(text_pair("\u00e9\u00e9a", "\u00e9\u00e9b").prompt.text, "\u00e9\u00e9");
}

TEST(PairText, ConversationsArePromptAndAnswerTurns) {
  const PairText pair = render_row(
      {{"prompt", {turn("user", "q")}}, {"chosen", {turn("assistant", "c")}}, {"rejected", {turn("assistant", "r")}}});
  EXPECT_EQ(pair.prompt.text, "[user:q][assistant:");
  EXPECT_EQ(pair.chosen.text, "[user:q][assistant:c]");
  EXPECT_EQ(pair.rejected.text, "[user:q][assistant:r]");
  EXPECT_FALSE(pair.appends_eos || pair.adds_special_tokens || pair.has_empty_answer);
}

TEST(PairText, WholeConversationsShareTheirFirstTurns) {
  json row = {{"chosen", {turn("user", "q"), turn("assistant", "c")}},
              {"rejected", {turn("user", "q"), turn("assistant", "r")}}};
  EXPECT_EQ(render_row(row).prompt.text, "[user:q][assistant:");
  EXPECT_EQ(render_row(row).rejected.text, "[user:q][assistant:r]");
  row["prompt"] = "q";  // beside whole conversations it says nothing new
  EXPECT_EQ(render_row(row).prompt.text, "[user:q][assistant:");
  EXPECT_EQ(render_row(row).chosen.text, "[user:q][assistant:c]");
  row["rejected"].push_back(turn("user", "more"));
  row["rejected"][1] = row["chosen"][1];
  EXPECT_EQ(render_row(row).prompt.text, "[user:q][assistant:");
  row.erase("prompt");
  row["rejected"][0] = turn("user", "other");
  EXPECT_EQ(render_row(row, {8, true, false}).prompt.text, "");  // a reward model reads whole texts
  expect_contains(refusal<DataError>(row, row), {"expected chosen and rejected to begin with the same turns"});
}

/// Prompt and chosen of a row, which differs from the rejected one in its answer alone.
std::vector<std::string> prompt_and_chosen(const json& row) {
  const PairText pair = render_row(row);
  EXPECT_TRUE(pair.rejected.text.starts_with(pair.prompt.text)) << pair.rejected.text;
  EXPECT_EQ(pair.rejected.text.substr(pair.prompt.text.size()), "r]");
  return {pair.prompt.text, pair.chosen.text};
}

json with_answers(json row) {
  row["chosen"] = turn("assistant", "c");
  row["rejected"] = json::array({turn("assistant", "r")});
  return row;
}

TEST(PairText, AnswersMayBeOneTurnAndTheirPromptInAnyColumn) {
  const std::vector<std::string> expected = {"[user:q][assistant:", "[user:q][assistant:c]"};
  EXPECT_EQ(prompt_and_chosen(with_answers({{"messages", {turn("user", "q")}}})), expected);
  EXPECT_EQ(prompt_and_chosen(with_answers({{"conversations", {{{"from", "human"}, {"value", "q"}}}}})), expected);
  EXPECT_EQ(prompt_and_chosen(with_answers({{"prompt", "q"}})), expected);
  EXPECT_EQ(prompt_and_chosen(with_answers({{"prompt", turn("user", "q")}})), expected);
  EXPECT_EQ(prompt_and_chosen(with_answers({{"question", "q"}})), expected);
  EXPECT_EQ(prompt_and_chosen({{"question", "q"}, {"chosen", "c"}, {"rejected", "r"}}), expected);
  EXPECT_EQ(prompt_and_chosen({{"messages", {turn("user", "q")}}, {"chosen", "c"}, {"rejected", "r"}}), expected);
  EXPECT_EQ(prompt_and_chosen({{"instruction", "i"}, {"input", "x"}, {"chosen", "c"}, {"rejected", "r"}}),
            (std::vector<std::string>{"[user:i\nx][assistant:", "[user:i\nx][assistant:c]"}));
}

TEST(PairText, SystemTextAndHistoryGoBeforeThePrompt) {
  const std::vector<std::string> expected = {"[system:s][user:1][assistant:2][user:q][assistant:",
                                             "[system:s][user:1][assistant:2][user:q][assistant:c]"};
  const json history = json::array({{"1", "2"}});
  EXPECT_EQ(prompt_and_chosen(with_answers({{"messages", {turn("user", "q")}}, {"system", "s"}, {"history", history}})),
            expected);
  json whole = {{"chosen", {turn("system", "s"), turn("user", "q"), turn("assistant", "c")}},
                {"rejected", {turn("system", "s"), turn("user", "q"), turn("assistant", "r")}},
                {"system", "s"},
                {"history", history}};
  EXPECT_EQ(prompt_and_chosen(whole), expected);
  whole["system"] = "t";
  expect_contains(refusal<DataError>(whole, whole),
                  {"column \"system\": expected the system text of the conversation"});
}

TEST(PairText, CopiesBesideWholeConversationsSayNothingNew) {
  json row = {{"chosen", {turn("user", "q"), turn("assistant", "c")}},
              {"rejected", {turn("user", "q"), turn("assistant", "r")}}};
  const std::vector<std::string> expected = prompt_and_chosen(row);
  row["messages"] = row["chosen"];
  EXPECT_EQ(prompt_and_chosen(row), expected);
  row["messages"] = json::array({turn("user", "other")});
  expect_contains(refusal<DataError>(row, row), {"to repeat how both conversations begin"});
  row.erase("messages");
  row["prompt"] = " q\n";
  EXPECT_EQ(prompt_and_chosen(row), expected);
  row["prompt"] = "other";
  expect_contains(refusal<DataError>(row, row), {"to repeat how both conversations begin"});
  // of answers alone, a conversation that holds one of them asks before it
  json copied = with_answers({{"messages", {turn("user", "q"), turn("assistant", "c")}}});
  EXPECT_EQ(prompt_and_chosen(copied), expected);
  copied["messages"][1]["content"] = "d";
  expect_contains(refusal<DataError>(copied, copied), {"got one that ends in an answer"});
}

TEST(PairText, AnswersAloneAreRefused) {
  const json row = with_answers(json::object());
  expect_contains(refusal<DataError>(row, row), {"expected a prompt, got answers alone"});
}

TEST(PairText, AnAnswerWithoutTextIsEmpty) {
  EXPECT_TRUE(render_row({{"prompt", "p"}, {"chosen", ""}, {"rejected", "r"}}).has_empty_answer);
  EXPECT_TRUE(render_row({{"chosen", {turn("user", "q"), turn("assistant", "c")}},
                          {"rejected", {turn("user", "q"), turn("assistant", "")}}})
                  .has_empty_answer);
}

TEST(PairText, MarginIsANumber) {
  const auto row = [](const json& margin) {
    return json{{"prompt", "p"}, {"chosen", "c"}, {"rejected", "r"}, {"margin", margin}};
  };
  EXPECT_EQ(render_row(row(2)).margin, 2.0);
  EXPECT_EQ(render_row(row(-0.5)).margin, -0.5);
  EXPECT_EQ(render_row(row("1.5")).margin, 1.5);  // as tables have it
  EXPECT_FALSE(render_row(row(nullptr)).margin);
  for (const json& bad : {json("1.5x"), json(""), json("nan"), json("1e999"), json(true), json::array(), json()}) {
    expect_contains(refusal<DataError>(row(1), row(bad)), {"column \"margin\": expected a finite number, got"});
  }
}

TEST(PairText, RowsThatDifferFromTheFirstAreRefused) {
  const json text = {{"prompt", "p"}, {"chosen", "c"}, {"rejected", "r"}};
  const json whole = {{"chosen", "pc"}, {"rejected", "pr"}};
  expect_contains(refusal<DataError>(text, whole), {"expected a column \"prompt\" as in the first row"});
  expect_contains(refusal<DataError>(whole, text), {"expected no column \"prompt\""});
  expect_contains(refusal<DataError>(text, {{"prompt", "p"}, {"chosen", "c"}}), {"expected a column \"rejected\""});
  expect_contains(refusal<DataError>(text, {{"prompt", "p"}, {"chosen", 3}, {"rejected", "r"}}),
                  {"column \"chosen\": expected text, got number"});
  expect_contains(refusal<DataError>(text, {{"prompt", nullptr}, {"chosen", "c"}, {"rejected", "r"}}),
                  {"expected text, got"});
  const json turns_row = {{"chosen", {turn("user", "q")}}, {"rejected", {turn("user", "r")}}};
  expect_contains(refusal<DataError>(turns_row, {{"chosen", json::array()}, {"rejected", {turn("user", "r")}}}),
                  {"expected 1 to 4096 messages, got 0"});
  expect_contains(refusal<DataError>(text, json::array()), {"expected an object"});
  expect_contains(refusal<UsageError>({{"text", "a"}}, {{"text", "a"}}), {"expected preference pairs"});
}

TEST(PairExample, BothTextsAreTokenizedWholeAndEndInEos) {
  const PairExample pair = tokenize("pp", "c", "rr");
  EXPECT_EQ(pair.chosen, ids_of("ppc"));
  EXPECT_EQ(pair.rejected, ids_of("pprr"));
  EXPECT_EQ(pair.prompt_length, 2);
  EXPECT_TRUE(pair.prompt_is_prefix && pair.ends_in_eos);
  EXPECT_FALSE(pair.is_truncated);
  EXPECT_EQ(pair.drop_reason, PairDropReason::kNone);
}

TEST(PairExample, EosIsNotAppendedTwice) {
  const PairExample pair = tokenize("p", "c</s>", "r");
  EXPECT_EQ(pair.chosen, ids_of("pc"));
  EXPECT_EQ(pair.rejected, ids_of("pr"));
  // in the prompt it has no effect, and elsewhere it is text
  EXPECT_EQ(tokenize("p</s>", "c", "</s>r").chosen, ids_of("p</s>c"));
  EXPECT_EQ(tokenize("p</s>", "c", "</s>r").rejected, ids_of("p</s></s>r"));
}

TEST(PairExample, PromptEndsWhereTokensDiffer) {
  // the template closes the turn of the prompt where the answer continues
  const RowTemplate chat = {ChatTemplate::from_jinja(
      "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}xy{% endif %}", "", "")};
  const json row = {
      {"prompt", {turn("user", "q")}}, {"chosen", {turn("assistant", "xyc")}}, {"rejected", {turn("assistant", "xr")}}};
  const PairExample pair =
      tokenize_pair(render_pair(row, find_row_format(row, {}, kWhere), &chat, {}, kWhere), byte_tokenizer(), {});
  EXPECT_EQ(pair.chosen, ids_of("qxyc", false));
  EXPECT_EQ(pair.prompt_length, 2);
  EXPECT_FALSE(pair.prompt_is_prefix || pair.ends_in_eos);
}

TEST(PairExample, LongTextsAreTruncated) {
  const PairExample pair = tokenize("pp", "c", "rrrr", {5, false, false});
  EXPECT_EQ(pair.chosen, ids_of("ppc"));
  EXPECT_EQ(pair.rejected, ids_of("pprrr", false));
  EXPECT_TRUE(pair.is_truncated);
  EXPECT_FALSE(pair.ends_in_eos);
  EXPECT_FALSE(tokenize("pp", "c", "rrrr", {0, false, false}).is_truncated);
  EXPECT_FALSE(tokenize("pp", "c", "rrrr", {7, false, false}).is_truncated);
}

TEST(PairExample, PairsThatTeachNothingAreDropped) {
  const auto reasons = [](const std::string& prompt, const std::string& chosen, const std::string& rejected) {
    EXPECT_EQ(drop_reason(prompt, chosen, rejected, 8, true), drop_reason(prompt, chosen, rejected, 8, false));
    return drop_reason(prompt, chosen, rejected, 8, true);
  };
  EXPECT_EQ(reasons("p", "a", "b"), PairDropReason::kNone);
  EXPECT_EQ(reasons("p", "a", "a"), PairDropReason::kIdentical);
  EXPECT_EQ(reasons("p", "a</s>", "a"), PairDropReason::kIdentical);
  EXPECT_EQ(reasons("p", "a", ""), PairDropReason::kEmptyCompletion);
  EXPECT_EQ(reasons("p", "", ""), PairDropReason::kEmptyCompletion);
}

TEST(PairExample, PairsThatAreTheSameOnceCutAreDropped) {
  EXPECT_EQ(drop_reason("p", "aab", "aac", 3, false), PairDropReason::kIdenticalOnceCut);
  EXPECT_EQ(drop_reason("p", "aa", "aac", 3, false), PairDropReason::kIdenticalOnceCut);
  EXPECT_EQ(drop_reason("p", "a", "aac", 3, false), PairDropReason::kNone);  // EOS against a third token
  EXPECT_EQ(drop_reason("p", "aab", "aac", 4, false), PairDropReason::kNone);
  EXPECT_EQ(drop_reason("p", "aab", "aac", 0, false), PairDropReason::kNone);
}

TEST(PairExample, AnswersWithoutATokenAreDropped) {
  PairText text;  // as rendered by a template that omits a message
  text.prompt = text.rejected = {"pp", {}};
  text.chosen = {"ppc", {}};
  EXPECT_EQ(tokenize_pair(text, byte_tokenizer(), {}).drop_reason, PairDropReason::kEmptyCompletion);
}

TEST(PairExample, DropsLongPairsDependingOnUse) {
  EXPECT_EQ(drop_reason("pppp", "c", "r", 5, false), PairDropReason::kNone);  // one token of the answer is left
  EXPECT_EQ(drop_reason("ppppp", "c", "r", 5, false), PairDropReason::kPromptTooLong);
  EXPECT_EQ(drop_reason("ppp", "c", "r", 5, true), PairDropReason::kNone);
  EXPECT_EQ(drop_reason("ppp", "c", "rr", 5, true), PairDropReason::kTooLong);
  EXPECT_EQ(drop_reason("ppp", "cc", "r", 5, true), PairDropReason::kTooLong);
  EXPECT_EQ(drop_reason("ppp", "cc", "r", 0, true), PairDropReason::kNone);
  EXPECT_THROW(drop_reason("p", "c", "r", -1, true), UsageError);
}

TEST(PairExample, TimeIsLinearInTheRow) {
  const std::string begin(5'000'000, 'x');
  const PairText pair = text_pair(begin + "a", begin + "b");
  EXPECT_EQ(pair.prompt.text.size(), begin.size());
  EXPECT_EQ(tokenize_pair(pair, byte_tokenizer(), {}).drop_reason, PairDropReason::kPromptTooLong);
}

}  // namespace
}  // namespace plumb
