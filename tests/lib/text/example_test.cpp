#include "lib/text/example.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"
#include "lib/text/own_template.hpp"
#include "lib/text/show_tokens.hpp"
#include "lib/text/turn_end.hpp"

namespace plumb {
namespace {

using nlohmann::json;

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
constexpr int32_t kFirstByte = 3;  // ids 3..258 are the bytes
constexpr int32_t kPair = 259;     // "bc", the only merge

/// Readable ids: every byte is a token, "bc" is one token, and <s> precedes each text.
Tokenizer byte_tokenizer(const std::string& config = R"({"bos_token": "<s>", "eos_token": "</s>"})") {
  json vocab = {{"<unk>", 0}, {"<s>", kBos}, {"</s>", kEos}};
  const char* digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    vocab[std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">"] = kFirstByte + byte;
  }
  vocab["bc"] = kPair;
  vocab["b"] = 260;
  vocab["c"] = 261;
  json added = json::array();
  for (const char* token : {"<unk>", "<s>", "</s>"}) {
    added.push_back({{"id", added.size()},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const auto sequence = [](const char* id) { return json({{"Sequence", {{"id", id}, {"type_id", 0}}}}); };
  const json file = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", json::array({bos, sequence("A")})},
        {"pair", json::array({bos, sequence("A"), sequence("B")})},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
      {"decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}}},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", "<unk>"},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", json::array({"b c"})}}}};
  return Tokenizer::from_json(file.dump(), config);
}

/// The ids of the bytes of `text`, where b and c are separate tokens.
std::vector<int32_t> ids_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(c == 'b' ? 260 : c == 'c' ? 261 : kFirstByte + static_cast<unsigned char>(c));
  return ids;
}

std::vector<int32_t> joined(std::initializer_list<std::vector<int32_t>> parts) {
  std::vector<int32_t> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<uint8_t> mask(const std::string& digits) {
  std::vector<uint8_t> values;
  for (const char c : digits) values.push_back(c == '1' ? 1 : 0);
  return values;
}

MarkedText from_user(const std::string& text) { return {text, {{0, text.size()}}}; }

SftText text_row(const std::string& text) {
  SftText row;
  row.full = from_user(text);
  row.appends_eos = true;
  return row;
}

SftText pair_row(const std::string& prompt, const std::string& completion) {
  SftText row = text_row(prompt + completion);
  row.prompt = from_user(prompt);
  return row;
}

TEST(SftExample, PlainTextIsTrainedFromBosToEos) {
  const SftExample example = tokenize_sft(text_row("az"), byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("az"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("1111"));
  EXPECT_TRUE(example.ends_in_trained_eos);
  EXPECT_FALSE(example.is_truncated);
  EXPECT_EQ(example.drop_reason, DropReason::kNone);
}

TEST(SftExample, ThePromptIsNotTrained) {
  const SftExample example = tokenize_sft(pair_row("ab", "az"), byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("abaz"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("000111"));
  EXPECT_TRUE(example.prompt_is_prefix);
}

TEST(SftExample, TheTokenAcrossTheBorderIsTrained) {
  const SftExample example = tokenize_sft(pair_row("ab", "cz"), byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("a"), {kPair}, ids_of("z"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("00111"));
  EXPECT_FALSE(example.prompt_is_prefix);
}

TEST(SftExample, APromptThatTheTemplateClosesOtherwiseEndsWhereTokensDiffer) {
  SftText row;  // as of a template whose header opens a thought that the answer does not begin with
  row.full = {"<s>uaz</s>", {}};
  row.prompt = MarkedText{"<s>uxxxxx", {}};
  row.adds_special_tokens = false;
  const SftExample example = tokenize_sft(row, byte_tokenizer(), {});
  EXPECT_EQ(example.loss_mask, mask("00111"));
  EXPECT_FALSE(example.prompt_is_prefix);
}

TEST(SftExample, SpelledControlTokensAreNoted) {
  const Tokenizer tokenizer = byte_tokenizer();
  EXPECT_EQ(tokenize_sft(text_row("a<s>z"), tokenizer, {}).notes.spelled_control_token, "<s>");
  EXPECT_EQ(tokenize_sft(pair_row("a</s>", "z"), tokenizer, {}).notes.spelled_control_token, "</s>");
  EXPECT_EQ(tokenize_sft(text_row("az</s>"), tokenizer, {}).notes.spelled_control_token, "");  // it is the EOS
  SftText parsed = text_row("a<s>z");
  parsed.full.user_ranges.clear();
  EXPECT_EQ(tokenize_sft(parsed, tokenizer, {}).notes.spelled_control_token, "");
}

TEST(SftExample, ASecondBosIsNoted) {
  SftText row = text_row("<s>a");
  EXPECT_FALSE(tokenize_sft(row, byte_tokenizer(), {}).notes.has_second_bos);  // it stays text
  row.full.user_ranges.clear();
  EXPECT_TRUE(tokenize_sft(row, byte_tokenizer(), {}).notes.has_second_bos);
  row.adds_special_tokens = false;
  EXPECT_FALSE(tokenize_sft(row, byte_tokenizer(), {}).notes.has_second_bos);
}

TEST(ShowTokens, TrainedTokensAndLettersOfControlTokensAreMarked) {
  const Tokenizer tokenizer = byte_tokenizer();
  const std::vector<int32_t> ids = joined({{kBos}, ids_of("az\n"), ids_of("<s>"), {kEos}});
  EXPECT_EQ(show_tokens(tokenizer, ids, mask("00011111"), false), "<s>az[[\n<\\s></s>]]");
  EXPECT_EQ(show_tokens(tokenizer, ids, mask("00000110"), false), "<s>az\n<[[\\s>]]</s>");
  EXPECT_EQ(show_tokens(tokenizer, ids, mask("00000000"), false), "<s>az\n<\\s></s>");
  EXPECT_EQ(show_tokens(tokenizer, ids_of("az"), mask("10"), true), "[[\x1b[32ma\x1b[0m]]z");
  EXPECT_EQ(show_tokens(tokenizer, {}, {}, false), "");
}

TEST(ShowTokens, ACharacterOfSeveralTokensIsWhole) {
  const std::vector<int32_t> ids = ids_of("bé");
  EXPECT_EQ(show_tokens(byte_tokenizer(), ids, mask("001"), false), "b[[é]]");
  EXPECT_EQ(show_tokens(byte_tokenizer(), ids, mask("011"), false), "b[[é]]");
}

TEST(SftExample, CompletionOnlyLossCanBeSwitched) {
  SftOptions options;
  options.completion_only_loss = false;
  EXPECT_EQ(tokenize_sft(pair_row("ab", "az"), byte_tokenizer(), options).loss_mask, mask("111111"));
  options.completion_only_loss = true;
  EXPECT_THROW(tokenize_sft(text_row("az"), byte_tokenizer(), options), UsageError);
}

TEST(SftExample, OnlyTheAppendedEosIsAControlToken) {
  const SftExample example = tokenize_sft(pair_row("</s>", "<s>z"), byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("</s><s>z"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("0000011111"));
}

TEST(SftExample, DataThatEndsInEosGetsNoSecondOne) {
  const SftExample example = tokenize_sft(pair_row("a", "</s>z</s>"), byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("a</s>z"), {kEos}}));
  // An EOS at the end of the prompt belongs to the prompt.
  EXPECT_EQ(tokenize_sft(pair_row("a</s>", ""), byte_tokenizer(), {}).token_ids,
            joined({{kBos}, ids_of("a</s>"), {kEos}}));
}

TEST(SftExample, UnmarkedTextMayContainControlTokens) {
  SftText row = pair_row("a</s>", "z");
  row.full.user_ranges.clear();
  row.prompt->user_ranges.clear();
  const SftExample example = tokenize_sft(row, byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("a"), {kEos}, ids_of("z"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("00011"));
}

TEST(SftExample, RenderedTextGetsNoSecondBos) {
  SftText row;
  row.full = {"<s>uaz</s>\n", {{3, 4}}};
  row.prompt = MarkedText{"<s>u", {{3, 4}}};
  row.adds_special_tokens = false;
  const SftExample example = tokenize_sft(row, byte_tokenizer(), {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("uaz"), {kEos}, ids_of("\n")}));
  EXPECT_EQ(example.loss_mask, mask("001111"));
  EXPECT_TRUE(example.ends_in_trained_eos);
}

TEST(SftExample, OnlyAssistantRangesAreTrained) {
  SftText row;
  row.full = {"<s>uaz</s>uyx</s>", {}};
  row.assistant_ranges = std::vector<ByteRange>{{4, 10}, {11, 17}};
  row.adds_special_tokens = false;
  const Tokenizer tokenizer = byte_tokenizer();
  const SftExample example = tokenize_sft(row, tokenizer, {});
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("uaz"), {kEos}, ids_of("uyx"), {kEos}}));
  EXPECT_EQ(example.loss_mask, mask("001110111"));

  SftOptions options;
  options.max_length = 4;
  EXPECT_EQ(tokenize_sft(row, tokenizer, options).loss_mask, mask("0011"));
  // With a prompt, both conditions apply.
  row.prompt = MarkedText{"<s>uaz</s>u", {}};
  EXPECT_EQ(tokenize_sft(row, tokenizer, {}).loss_mask, mask("000000111"));
}

TEST(SftExample, ARangeHasTheTokensOfItsFirstAndItsLastCharacter) {
  SftText row;
  row.full = {"<s>abcd</s>", {}};  // tokens: <s> a bc d </s>
  row.adds_special_tokens = false;
  const auto mask_of = [&](size_t begin, size_t end) {
    row.assistant_ranges = std::vector<ByteRange>{{begin, end}};
    return tokenize_sft(row, byte_tokenizer(), {}).loss_mask;
  };
  EXPECT_EQ(mask_of(4, 6), mask("00100"));
  EXPECT_EQ(mask_of(5, 7), mask("00110"));  // begins within "bc"
  EXPECT_EQ(mask_of(3, 5), mask("01100"));  // ends within it
  EXPECT_EQ(mask_of(7, 11), mask("00001"));
  EXPECT_EQ(mask_of(5, 5), mask("00000"));
  row.full = {"<s>a\u00e9</s>", {}};  // the last character has two tokens; as in transformers its first one counts
  EXPECT_EQ(mask_of(3, 6), mask("01100"));
}

TEST(SftExample, TruncationKeepsTheStart) {
  SftOptions options;
  options.max_length = 4;
  const SftExample example = tokenize_sft(pair_row("a", "zyxw"), byte_tokenizer(), options);
  EXPECT_EQ(example.token_ids, joined({{kBos}, ids_of("azy")}));
  EXPECT_EQ(example.loss_mask, mask("0011"));
  EXPECT_TRUE(example.is_truncated);
  EXPECT_FALSE(example.ends_in_trained_eos);
  options.max_length = 0;
  EXPECT_EQ(tokenize_sft(pair_row("a", "zyxw"), byte_tokenizer(), options).token_ids.size(), 7u);
}

TEST(SftExample, RowsWithNothingToLearnAreDropped) {
  const Tokenizer tokenizer = byte_tokenizer();
  SftOptions options;
  options.max_length = 3;
  EXPECT_EQ(tokenize_sft(pair_row("aaa", "z"), tokenizer, options).drop_reason, DropReason::kNothingToLearn);
  // The first token of a text is trained, but no token precedes it to predict it.
  options.max_length = 1;
  const SftExample first = tokenize_sft(text_row("az"), tokenizer, options);
  EXPECT_EQ(first.loss_mask, mask("1"));
  EXPECT_EQ(first.drop_reason, DropReason::kNothingToLearn);
  SftText nothing;
  nothing.adds_special_tokens = false;
  EXPECT_EQ(tokenize_sft(nothing, tokenizer, {}).drop_reason, DropReason::kEmpty);
  EXPECT_EQ(tokenize_sft(pair_row("a", ""), tokenizer, {}).drop_reason, DropReason::kNone);
}

TEST(SftExample, AMissingEosIsAUsageError) {
  EXPECT_THROW(tokenize_sft(text_row("a"), byte_tokenizer("{}"), {}), UsageError);
  SftOptions options;
  options.max_length = -1;
  EXPECT_THROW(tokenize_sft(text_row("a"), byte_tokenizer(), options), UsageError);
}

TurnEnd end_of(const std::string& turn, const std::string& rest = "") {
  const std::string source = "{% for m in messages %}" + turn + "{% endfor %}" + rest;
  return find_turn_end(ChatTemplate::from_jinja(source, "<s>", "</s>"), byte_tokenizer());
}

TEST(TurnEnd, IsTheControlTokenAfterTheAnswer) {
  EXPECT_EQ(end_of("[{{ m.role }}]{{ m.content }}<unk>\n").id, 0);
  EXPECT_EQ(end_of("{{ m.content }} {{ eos_token }}").id, kEos);
  EXPECT_EQ(end_of("{{ m.content }}<unk>\n{{ eos_token }}").id, 0);
  EXPECT_EQ(end_of("{{ m.content }}", "{{ eos_token if not add_generation_prompt }}").id, kEos);
}

TEST(TurnEnd, MayBeMissing) {
  const TurnEnd text = end_of("[{{ m.content }}] ");
  EXPECT_EQ(text.text, "]");
  EXPECT_FALSE(text.id);
  EXPECT_EQ(end_of("<unk>{{ m.content }}").text, "");
  EXPECT_FALSE(end_of("<unk>{{ m.content }}").id);
  EXPECT_FALSE(end_of("{{ raise_exception('no') }}").id);
  EXPECT_FALSE(end_of("{{ m.role }}<unk>").id);  // the answer is not rendered
}

TEST(SftExample, EndsInTheTurnOfItsTemplateToo) {
  const Tokenizer tokenizer = byte_tokenizer(
      R"({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{% for m in messages %}{{ m.content }}<unk>\n{% endfor %}"})");
  const nlohmann::ordered_json row = {{"messages", {{{"role", "assistant"}, {"content", "a"}}}}};
  const RowFormat format = find_row_format(row, {}, "");
  const std::optional<RowTemplate> own = choose_template(format, tokenizer);
  SftText text = render_sft(row, format, &*own, {}, "");
  EXPECT_TRUE(tokenize_sft(text, tokenizer, {}).ends_in_trained_eos);
  text.turn_end.reset();
  EXPECT_FALSE(tokenize_sft(text, tokenizer, {}).ends_in_trained_eos);
}

TEST(OwnTemplate, GivesTheTokensOfTheNamedOne) {
  const Tokenizer tokenizer = byte_tokenizer();
  for (const std::string& name : template_names()) {
    const OwnTemplate own = own_template(name, tokenizer);
    EXPECT_TRUE(own.gives_same_tokens) << name;
    EXPECT_TRUE(is_own_form_of(name, own.source)) << name;
    const auto chat = ChatTemplate::from_jinja(own.source, "<s>", "</s>");
    const std::vector<Message> question = {{"user", "a"}};
    EXPECT_EQ(tokenizer.encode(chat.render(question, true), false).front(), kBos) << name;
  }
  EXPECT_FALSE(is_own_form_of("chatml", own_template("zephyr", tokenizer).source));
  EXPECT_THROW(own_template("chatm", tokenizer), UsageError);
}

TEST(OwnTemplate, OfAlpacaKeepsTheTurnOfTheInput) {
  const nlohmann::ordered_json row = {{"instruction", "i"}, {"input", "x"}, {"output", "o"}};
  const RowFormat format = find_row_format(row, {}, "");
  json config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const Tokenizer without = byte_tokenizer(config.dump());
  config["chat_template"] = own_template("alpaca", without).source;
  const Tokenizer with = byte_tokenizer(config.dump());
  const auto ids = [&](const Tokenizer& tokenizer) {
    const std::optional<RowTemplate> chosen = choose_template(format, tokenizer);
    return tokenize_sft(render_sft(row, format, &*chosen, {}, ""), tokenizer, {}).token_ids;
  };
  EXPECT_EQ(ids(with), ids(without));
}

}  // namespace
}  // namespace plumb
