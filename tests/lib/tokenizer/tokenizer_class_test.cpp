// One tokenizer.json under several classes; ids and texts are those of transformers 5.23.
#include "lib/tokenizer/tokenizer_class.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "lib/tokenizer/model_types.hpp"
#include "lib/tokenizer/tokenizer.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using Ids = std::vector<int32_t>;
using Tokens = std::map<std::string, std::string>;

constexpr TokenizerBehavior k5 = TokenizerBehavior::kTransformers5, k4 = TokenizerBehavior::kTransformers4;

TokenizerTexts texts(const Json& json, const Json& config, const char* model_type) {
  return {.tokenizer_json = json.dump(),
          .tokenizer_config = config.dump(),
          .model_config = Json{{"model_type", model_type}}.dump()};
}

Tokenizer read(const Json& config, const char* model_type, Json json = llama_fixture()) {
  return Tokenizer::from_texts(texts(json, config, model_type));
}

std::string chosen(const Json& config, const char* model_type, const char* tokenizer_json = "{}") {
  TokenizerTexts files = texts({}, config, model_type);
  files.tokenizer_json = tokenizer_json;
  return choose_tokenizer_class(files, parse_tokenizer_config(files, k5));
}

// Ids and decoded texts of "hello a", "</s>hello" and " a</s> ab".
struct Expected {
  Json config;
  const char* model_type;
  std::array<Ids, 3> ids;
  std::array<std::string, 3> decoded;
};

TEST(TokenizerClass, DecidesWhereSpacesGo) {
  const std::array<Ids, 3> first = {Ids{1, 263, 265}, {1, 2, 269, 260, 261}, {1, 265, 2, 267}};
  const std::array<Ids, 3> always = {Ids{1, 263, 265}, {1, 2, 263}, {1, 265, 2, 267}};
  const std::array<Ids, 3> never = {Ids{1, 269, 260, 261, 265}, {1, 2, 269, 260, 261}, {1, 265, 2, 267}};
  const std::array<Ids, 3> written = {Ids{1, 263, 265}, {1, 2, 263}, {1, 264, 273, 2, 264, 266}};
  const std::array<std::string, 3> with_space = {"<s> hello a", "<s></s>hello", "<s> a</s> ab"};
  const std::array<std::string, 3> without_space = {"<s>hello a", "<s></s>hello", "<s> a</s> ab"};
  const std::array<std::string, 3> of_always = {"<s> hello a", "<s></s> hello", "<s> a</s> ab"};
  const std::array<std::string, 3> of_written = {"<s> hello a", "<s></s> hello", "<s>  a</s>  ab"};
  const char* llama = "LlamaTokenizer";
  const std::vector<Expected> cases = {
      {Json::object(), "llama", written, of_written},
      {{{"tokenizer_class", "PreTrainedTokenizerFast"}}, "llama", written, of_written},
      {{{"tokenizer_class", llama}}, "mistral", written, of_written},
      {{{"tokenizer_class", llama}}, "phi3", written, of_written},
      {{{"tokenizer_class", llama}}, "llama", first, with_space},
      {{{"tokenizer_class", "LlamaTokenizerFast"}}, "llama", first, with_space},
      {{{"tokenizer_class", llama}, {"legacy", nullptr}, {"add_prefix_space", nullptr}}, "llama", first, with_space},
      {{{"tokenizer_class", llama}, {"legacy", true}}, "llama", always, of_always},
      {{{"tokenizer_class", llama}, {"add_prefix_space", false}}, "llama", never, without_space},
      {{{"tokenizer_class", "GemmaTokenizer"}}, "gemma2", never, without_space},
      {{{"tokenizer_class", "CodeLlamaTokenizer"}}, "llama", first, with_space},
  };
  const char* inputs[] = {"hello a", "</s>hello", " a</s> ab"};
  for (const Expected& expected : cases) {
    const Tokenizer tokenizer = read(expected.config, expected.model_type);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(tokenizer.encode(inputs[i]), expected.ids[i]) << expected.config << expected.model_type << inputs[i];
      EXPECT_EQ(tokenizer.decode(expected.ids[i]), expected.decoded[i]) << expected.config << expected.model_type;
    }
    EXPECT_EQ(tokenizer.differences().empty(), expected.ids[2] == written[2]) << tokenizer.differences();
    const Tokenizer older = Tokenizer::from_texts(texts(llama_fixture(), expected.config, expected.model_type), k4);
    EXPECT_EQ(older.encode(inputs[2]), written[2]) << expected.config;
    EXPECT_EQ(older.differences(), "");
  }
}

TEST(TokenizerClass, AddsTokensThatNoVocabularyHas) {
  const Tokenizer tokenizer =
      read({{"tokenizer_class", "LlamaTokenizer"}, {"pad_token", "<pad>"}, {"extra_special_tokens", {"<x>"}}}, "llama");
  EXPECT_EQ(tokenizer.encode("<pad><x>"), (Ids{1, 277, 278}));
  EXPECT_EQ(tokenizer.vocab_size(), 279);
  EXPECT_EQ(tokenizer.pad_id(), 277);
  EXPECT_TRUE(tokenizer.is_special(278));
  EXPECT_EQ(tokenizer.special_tokens(),
            (Tokens{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}}));
  EXPECT_EQ(read({{"tokenizer_class", "GemmaTokenizer"}}, "gemma2").vocab_size(), 281) << "its own names of roles";
  EXPECT_EQ(read({{"tokenizer_class", "CodeLlamaTokenizer"}}, "llama").vocab_size(), 282);
  EXPECT_EQ(read({{"bos_token", nullptr}, {"tokenizer_class", "LlamaTokenizer"}}, "llama").bos_id(), std::nullopt)
      << "null is no token, not the default";
}

TEST(TokenizerClass, NullPostProcessorAddsNothing) {
  Json json = llama_fixture();
  json["post_processor"] = nullptr;
  const Json config = {{"bos_token", "<s>"}, {"add_bos_token", true}, {"tokenizer_class", "LlamaTokenizer"}};
  EXPECT_EQ(read(config, "llama", json).encode("hello a"), (Ids{263, 265}));
  EXPECT_EQ(read({{"bos_token", "<s>"}, {"add_bos_token", true}}, "llama", json).encode("hello a"), (Ids{263, 265}));
  EXPECT_NE(read(config, "llama", json).differences().find("tokens around a text"), std::string::npos);
  EXPECT_EQ(read({{"tokenizer_class", "CodeLlamaTokenizer"}}, "llama", json).encode("hello a"), (Ids{1, 263, 265}));
  EXPECT_EQ(Tokenizer::from_texts(texts(json, config, "llama"), k4).encode("hello a"), (Ids{1, 263, 265}));
  Json byte_level = llama_fixture();
  byte_level["decoder"] = {{"type", "ByteLevel"}};
  EXPECT_EQ(read({{"tokenizer_class", "GPTNeoXTokenizer"}}, "gpt_neox", byte_level).encode("ab"), Ids{266})
      << "a post-processor that the class replaces";
}

TEST(TokenizerClass, IsChosenByFilesAndModelType) {
  const auto named = [](const char* name) { return Json{{"tokenizer_class", name}}; };
  constexpr const char* kByteLevel = R"({"decoder": {"type": "ByteLevel"}})";
  EXPECT_EQ(chosen(named("LlamaTokenizerFast"), "llama"), "LlamaTokenizer");
  EXPECT_EQ(chosen(named("LlamaTokenizerFast"), "llama", kByteLevel), "");
  EXPECT_EQ(chosen(named("LlamaTokenizer"), "qwen2", kByteLevel), "Qwen2Tokenizer");
  EXPECT_EQ(chosen(named("PreTrainedTokenizerFast"), "qwen2", kByteLevel), "Qwen2Tokenizer")
      << "its type is known to be wrong";
  EXPECT_EQ(chosen(named("PreTrainedTokenizerFast"), "qwen2"), "") << "unlike transformers: words of another kind";
  EXPECT_EQ(chosen(named("PreTrainedTokenizerFast"), "qwen3", kByteLevel), "");
  EXPECT_EQ(chosen(named("Qwen2Tokenizer"), "qwen3", kByteLevel), "Qwen2Tokenizer");
  EXPECT_EQ(chosen(named("Qwen2Tokenizer"), "qwen3_5", kByteLevel), "Qwen3_5Tokenizer");
  EXPECT_EQ(chosen(Json::object(), "qwen3", kByteLevel), "Qwen2Tokenizer");
  EXPECT_EQ(chosen(Json::object(), "llama"), "");
  EXPECT_EQ(chosen(named("GPT2Tokenizer"), "granite"), "");
  EXPECT_EQ(chosen(named("GPT2Tokenizer"), "phi3"), "");
  EXPECT_EQ(chosen(named("GPT2Tokenizer"), "llama", kByteLevel), "GPT2Tokenizer");
  EXPECT_EQ(chosen(named("SomeTokenizer"), "llama"), "");
  EXPECT_EQ(chosen(named("BloomTokenizerFast"), "bloom"), "");
  TokenizerTexts files = texts({}, Json::object(), "llama");
  files.model_config = R"({"model_type": "llama", "tokenizer_class": "LlamaTokenizer"})";
  EXPECT_EQ(choose_tokenizer_class(files, parse_tokenizer_config(files, k5)), "LlamaTokenizer");
  files.model_config = "";
  EXPECT_EQ(choose_tokenizer_class(files, parse_tokenizer_config(files, k5)), "");
}

TEST(TokenizerClass, RefusesByNameWhatItCannotRebuild) {
  const auto refusal = [](const Json& config, const char* model_type) {
    return refusal_of<DataError>([&] { read(config, model_type); });
  };
  const std::string roberta = refusal({{"tokenizer_class", "RobertaTokenizerFast"}}, "llama");
  EXPECT_NE(roberta.find("RobertaTokenizer"), std::string::npos);
  EXPECT_NE(roberta.find("--tokenizer_behavior transformers4"), std::string::npos);
  const Json code = {{"tokenizer_class", "OwnTokenizer"}, {"auto_map", {{"AutoTokenizer", {nullptr, "own.Own"}}}}};
  EXPECT_NE(refusal(code, "llama").find("auto_map"), std::string::npos);
  EXPECT_EQ(refusal(code, "mistral"), kAccepted) << "transformers has a tokenizer for this type, and takes it";
  EXPECT_EQ(refusal({{"tokenizer_class", "RobertaTokenizer"}}, "mistral"), kAccepted) << "the type has no class";
}

TEST(TokenizerClass, SmallFilesCountOnlyWithoutAddedTokensDecoder) {
  TokenizerTexts files = texts(llama_fixture(), {{"eos_token", "<s>"}}, "llama");
  files.special_tokens_map = R"({"eos_token": "</s>", "additional_special_tokens": ["<x>"]})";
  files.added_tokens = R"({"<y>": 277, "<x>": 278})";
  const Tokenizer tokenizer = Tokenizer::from_texts(files);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.encode("<x><y>", false), (Ids{278, 277}));
  EXPECT_TRUE(tokenizer.is_special(278));
  EXPECT_FALSE(tokenizer.is_special(277));
  files.tokenizer_config = R"({"eos_token": "<s>", "added_tokens_decoder": {}})";
  EXPECT_EQ(Tokenizer::from_texts(files).eos_id(), 1);
  EXPECT_EQ(Tokenizer::from_texts(files).vocab_size(), 277);
}

TEST(TokenizerClass, SplitSpecialTokensAreText) {
  const Tokenizer tokenizer = read({{"split_special_tokens", true}}, "llama");
  const Ids ids = tokenizer.encode("</s>", false);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 0);
  EXPECT_EQ(tokenizer.decode(ids), "</s>");
}

// A vocabulary of single characters, which is as large as those of Tekken.
Json tekken(int num_tokens) {
  Json json = byte_level_fixture();
  json["added_tokens"] = Json::array();
  for (int id = 264; id < num_tokens; ++id) json["model"]["vocab"][fmt::format("token {}", id)] = id;
  const Json words = {{"type", "Split"}, {"pattern", {{"Regex", "[a-z]+"}}}, {"behavior", "Isolated"}};
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {words, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  return json;
}

TEST(TokenizerClass, FixesTheWordsOfTekken) {
  const Ids joined = {260}, split = {' ', 259};  // " hello" as one word or two
  const auto encode = [](int num_tokens, bool fixes, const char* type, const char* version) {
    TokenizerTexts files = texts(tekken(num_tokens), {{"fix_mistral_regex", fixes}}, type);
    files.model_config = Json{{"model_type", type}, {"transformers_version", version}}.dump();
    return Tokenizer::from_texts(files).encode(" hello");
  };
  EXPECT_EQ(encode(100'001, true, "mistral", "4.43.0"), joined);
  EXPECT_EQ(encode(100'001, true, "ministral", "5.0.0.dev0"), joined);
  EXPECT_EQ(encode(100'001, true, "mistral", "5.0.0"), split);
  EXPECT_EQ(encode(100'001, true, "llama", "4.43.0"), split);
  EXPECT_EQ(encode(100'001, false, "mistral", "4.43.0"), split);
  EXPECT_EQ(encode(100'000, true, "mistral", "4.43.0"), split);
}

TEST(TokenizerClass, FlagsOfATokenNamedAgain) {
  Json json = llama_fixture();
  for (Json& token : json["added_tokens"]) token["normalized"] = true;
  const Json raw = {{"content", "</s>"}, {"normalized", false}, {"special", true}};
  const Tokenizer tokenizer = read({{"added_tokens_decoder", {{"2", raw}}}}, "llama", json);
  EXPECT_EQ(tokenizer.encode("a </s> b", false), (Ids{265, 268, 2, 264, 274})) << "found in raw text";
  EXPECT_EQ(tokenizer.decode(Ids{265, 2}, true), "a </s>") << "decoded, and not skipped, as its normalized content";
}

TEST(TokenizerClass, RegisteredTypesAreSorted) {
  const auto by_type = [](const RegisteredClass& a, const RegisteredClass& b) { return a.model_type < b.model_type; };
  EXPECT_TRUE(std::is_sorted(kRegisteredClasses.begin(), kRegisteredClasses.end(), by_type));
  for (const RegisteredClass& registered : kRegisteredClasses)
    EXPECT_NO_THROW(chosen(Json::object(), std::string(registered.model_type).c_str())) << registered.model_type;
}

}  // namespace
}  // namespace plumb
