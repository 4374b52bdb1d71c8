#include "lib/tokenizer/tokenizer.hpp"

#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using Ids = std::vector<int32_t>;

Tokenizer make(const Json& json, const Json& config = nullptr) {
  return Tokenizer::from_json(json.dump(), config.is_null() ? std::string() : config.dump());
}

Tokenizer make_older(const Json& json, const Json& config = nullptr) {
  return Tokenizer::from_texts({.tokenizer_json = json.dump(), .tokenizer_config = config.dump()},
                               TokenizerBehavior::kTransformers4);
}

std::string error_of(const Json& json, const Json& config = nullptr) {
  return refusal_of<DataError>([&] { make(json, config); });
}

// The fixture with the value at `pointer` replaced.
Json with(Json json, const std::string& pointer, Json value) {
  json[Json::json_pointer(pointer)] = std::move(value);
  return json;
}

TEST(Tokenizer, MergesLowestRankThenLeftmost) {
  const Tokenizer tokenizer = make(byte_level_fixture());
  EXPECT_EQ(tokenizer.encode("hello"), Ids{259});
  EXPECT_EQ(tokenizer.encode(" hello"), Ids{260});
  EXPECT_EQ(tokenizer.encode("helo"), (Ids{257, 'l', 'o'}));
  EXPECT_EQ(tokenizer.encode("aaab"), (Ids{263, 261})) << "a b ranks before a a";
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{263, 'a'}));
  EXPECT_EQ(tokenizer.encode("lll"), (Ids{256, 'l'}));
  EXPECT_EQ(tokenizer.encode("ababab"), (Ids{262, 261}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.encode("é"), (Ids{0xC3, 0xA9}));
}

TEST(Tokenizer, ReadsMergesInBothSpellings) {
  Json json = byte_level_fixture();
  for (Json& merge : json["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(make(json).encode("hello ab"), make(byte_level_fixture()).encode("hello ab"));
}

TEST(Tokenizer, FallsBackToBytesThenToUnknown) {
  const Json json = llama_fixture();
  EXPECT_EQ(make(json).encode("hello"), (Ids{1, 263}));
  EXPECT_EQ(make(json).encode("é¢", false), (Ids{268, 275, 0xC2 + 3, 0xA2 + 3}));
  const Json without = with(json, "/model/byte_fallback", false);
  EXPECT_EQ(make(without).encode("¢¢a", false), (Ids{268, 0, 273}));
  EXPECT_EQ(make(with(without, "/model/fuse_unk", false)).encode("¢¢a", false), (Ids{268, 0, 0, 273}));
  EXPECT_EQ(make(with(without, "/model/unk_token", nullptr)).encode("¢¢a", false), Ids{265}) << "dropped";
  EXPECT_THROW(make(with(without, "/model/unk_token", "<no>")).encode("¢"), DataError);
}

TEST(Tokenizer, IgnoreMergesKeepsWholeWords) {
  Json json = byte_level_fixture();
  json["model"]["vocab"]["hellx"] = 270;
  EXPECT_EQ(make(json).encode("hellx"), (Ids{258, 'x'}));
  EXPECT_EQ(make(with(json, "/model/ignore_merges", true)).encode("hellx"), Ids{270});
}

TEST(Tokenizer, CutsOutAddedTokens) {
  const Tokenizer tokenizer = make(byte_level_fixture());
  EXPECT_EQ(tokenizer.encode("<|start|>hello<|end|>"), (Ids{301, 259, 302}));
  EXPECT_EQ(tokenizer.encode("a<tool><|bos|>"), (Ids{'a', 303, 300}));
  EXPECT_EQ(tokenizer.encode("<|star<|end|>").back(), 302);
  EXPECT_EQ(tokenizer.decode(Ids{301, 259, 303}), "<|start|>hello<tool>");
  EXPECT_EQ(tokenizer.decode(Ids{301, 259, 303}, true), "hello<tool>");
}

TEST(Tokenizer, PrefersTheLongestAddedToken) {
  Json json = byte_level_fixture();
  Json& added = json["added_tokens"];
  added.push_back(added_token(310, "<|end|>>", true));
  added.push_back(added_token(311, "<l>", false, {{"lstrip", true}}));
  added.push_back(added_token(312, "<r>", false, {{"rstrip", true}}));
  added.push_back(added_token(313, "word", false, {{"single_word", true}}));
  const Tokenizer tokenizer = make(json);
  EXPECT_EQ(tokenizer.encode("<|end|>>"), Ids{310});
  EXPECT_EQ(tokenizer.encode("a \n<l> b"), (Ids{'a', 311, ' ', 'b'}));
  EXPECT_EQ(tokenizer.encode("a <r>\u3000 b"), (Ids{'a', ' ', 312, 'b'}));
  EXPECT_EQ(tokenizer.encode("a-word."), (Ids{'a', '-', 313, '.'}));
  EXPECT_EQ(tokenizer.encode("words"), (Ids{'w', 'o', 'r', 'd', 's'}));
  EXPECT_EQ(tokenizer.encode("éword").size(), 6u) << "é is a word character";
  EXPECT_EQ(tokenizer.vocab_size(), 314);
}

TEST(Tokenizer, FindsNormalizedTokensInNormalizedText) {
  Json json = with(byte_level_fixture(), "/normalizer", {{"type", "Lowercase"}});
  json["added_tokens"].push_back(added_token(310, "DAY", false, {{"normalized", true}}));
  EXPECT_EQ(make(json).encode("Day<|END|>"), (Ids{310, '<', '|', 'e', 'n', 'd', '|', '>'}));
  EXPECT_EQ(make(json).decode(Ids{310}), "day");
}

TEST(Tokenizer, UserTextNeverBecomesSpecialTokens) {
  const Tokenizer tokenizer = make(byte_level_fixture());
  const std::string text = "<|start|>hello<|end|><tool><|end|>";
  const Ids ids = tokenizer.encode(MarkedText{text, {{9, 27}}});
  EXPECT_EQ(ids, (Ids{301, 259, '<', '|', 'e', 'n', 'd', '|', '>', 303, 302})) << "tools are no control tokens";
  EXPECT_EQ(tokenizer.decode(ids), text);
  for (const ByteRange touching : {ByteRange{0, 1}, ByteRange{4, 5}, ByteRange{8, 12}}) {
    EXPECT_NE(tokenizer.encode(MarkedText{text, {touching}}).front(), 301) << touching.begin;
  }
  EXPECT_EQ(tokenizer.encode(MarkedText{text, {}}), tokenizer.encode(text));
  EXPECT_EQ(tokenizer.encode(MarkedText{text, {{9, 9}}}), tokenizer.encode(text)) << "an empty range holds nothing";
  EXPECT_THROW(tokenizer.encode(MarkedText{"ab", {{1, 3}}}), std::logic_error);
  EXPECT_THROW(tokenizer.encode(MarkedText{"ab", {{1, 2}, {0, 1}}}), std::logic_error);
}

TEST(Tokenizer, UserTextNeverBecomesNormalizedSpecialTokens) {
  Json json = llama_fixture();
  for (Json& token : json["added_tokens"]) token["normalized"] = true;
  json["normalizer"] = json["normalizer"]["normalizers"][1];  // no prefix, so that contents stay as they are
  const Tokenizer tokenizer = make(json);
  EXPECT_EQ(tokenizer.encode("a b</s>", false), (Ids{273, 268, 274, 2}));
  const Ids ids = tokenizer.encode(MarkedText{"</s> b</s>", {{0, 6}}}, false);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 1);
  EXPECT_EQ(ids.back(), 2);
}

TEST(Tokenizer, AddsTokensOfThePostProcessor) {
  const Tokenizer tokenizer = make(llama_fixture());
  EXPECT_EQ(tokenizer.encode("").front(), 1);
  EXPECT_EQ(tokenizer.encode("", false), Ids{});
  Json twice = llama_fixture();
  const Json one = twice["post_processor"];
  Json other = one;
  other["single"] = {one["single"][1], one["single"][0]};
  twice["post_processor"] = {{"type", "Sequence"}, {"processors", {{{"type", "ByteLevel"}}, one, other}}};
  EXPECT_EQ(make(twice).encode(""), (Ids{1, 1}));
  EXPECT_EQ(make(twice).encode("a"), (Ids{1, 265, 1}));
}

TEST(Tokenizer, ReadsRolesAndTemplateFromTheConfig) {
  const Json json = byte_level_fixture();
  const Json config = {{"bos_token", {{"content", "<|bos|>"}, {"__type", "AddedToken"}}},
                       {"eos_token", "<|end|>"},
                       {"pad_token", "hello"},
                       {"unk_token", nullptr},
                       {"image_token", "<tool>"},
                       {"add_bos_token", true},
                       {"add_eos_token", true},
                       {"chat_template", "{{ x }}"},
                       {"added_tokens_decoder", {{"400", {{"content", "<new>"}, {"special", true}}}}}};
  const Tokenizer tokenizer = make(json, config);
  EXPECT_EQ(tokenizer.bos_id(), 300);
  EXPECT_EQ(tokenizer.eos_id(), 302);
  EXPECT_EQ(tokenizer.pad_id(), 259);
  EXPECT_EQ(tokenizer.bos_token(), "<|bos|>");
  EXPECT_EQ(tokenizer.eos_token(), "<|end|>");
  EXPECT_EQ(tokenizer.chat_template(), "{{ x }}");
  EXPECT_EQ(
      tokenizer.special_tokens(),
      (std::map<std::string, std::string>{
          {"bos_token", "<|bos|>"}, {"eos_token", "<|end|>"}, {"image_token", "<tool>"}, {"pad_token", "hello"}}));
  EXPECT_EQ(tokenizer.encode("a<new>hello"), (Ids{'a', 400, 259})) << "the post-processor is null, so it adds none";
  EXPECT_EQ(make_older(json, config).encode("a<new>hello"), (Ids{300, 'a', 400, 259, 302}));
  EXPECT_TRUE(tokenizer.is_special(400));
  EXPECT_TRUE(tokenizer.is_special(259)) << "a token with a role is special";
  EXPECT_EQ(tokenizer.vocab_size(), 401);
  EXPECT_EQ(make(json).bos_id(), std::nullopt);
  EXPECT_EQ(make(json).bos_token(), "");
  EXPECT_EQ(make(llama_fixture(), {{"bos_token", "<s>"}, {"add_bos_token", true}}).encode(""), Ids{1})
      << "the post-processor wins";
  Json named = {{"chat_template", {{{"name", "rag"}, {"template", "r"}}, {{"name", "default"}, {"template", "d"}}}}};
  EXPECT_EQ(make(json, named).chat_template(), "d");
  EXPECT_EQ(make(json, named).tool_template(), "");
  named["chat_template"].push_back({{"name", "tool_use"}, {"template", "t"}});
  EXPECT_EQ(make(json, named).tool_template(), "t");
}

TEST(Tokenizer, RefusesConfigsOfOtherModels) {
  const Json json = byte_level_fixture();
  const auto older = [&](const Json& config) { return refusal_of<DataError>([&] { make_older(json, config); }); };
  EXPECT_NE(older({{"eos_token", "</other>"}}).find("</other>"), std::string::npos);
  EXPECT_NE(older({{"add_bos_token", true}}).find("bos_token"), std::string::npos);
  const auto added = [](const char* id, const char* content) {
    return Json{{"added_tokens_decoder", {{id, {{"content", content}}}}}};
  };
  EXPECT_NE(error_of(json, added("300", "<x>")).find("same id 300"), std::string::npos);
  EXPECT_NE(error_of(json, added("500", "hello")).find("two ids"), std::string::npos);
  EXPECT_NE(error_of(json, added("-1", "<x>")), kAccepted);
  EXPECT_NE(error_of(json, added("4000000000", "<x>")), kAccepted);
  EXPECT_NE(error_of(json, {{"bos_token", 7}}), kAccepted);
  EXPECT_NE(error_of(json, {{"chat_template", 7}}), kAccepted);
  EXPECT_NE(error_of(json, Json::array()), kAccepted);
}

TEST(Tokenizer, RefusesBadVocabulariesAndMerges) {
  const Json json = byte_level_fixture();
  const auto refuses = [&](const char* pointer, Json value, const char* reason) {
    const std::string error = error_of(with(json, pointer, std::move(value)));
    EXPECT_NE(error.find(reason), std::string::npos) << pointer << ": " << error;
  };
  refuses("/model/vocab/x", -1, "expected a token id");
  refuses("/model/vocab/x", 1LL << 40, "expected a token id");
  refuses("/model/vocab/x", 1.5, "expected a token id");
  refuses("/model/vocab/x", "7", "expected a token id");
  refuses("/model/vocab/x", 5, "same id 5");
  refuses("/model/merges/0", {"he", "zz"}, "'zz' is not in the vocabulary");
  refuses("/model/merges/0", {"h", "l"}, "'hl' is not in the vocabulary");
  refuses("/model/merges/0", "h", "expected \"a b\"");
  refuses("/model/merges/0", "h e l", "expected \"a b\"");
  refuses("/model/merges/0", {"h"}, "expected \"a b\"");
  refuses("/model/merges", nullptr, "expected an array");
  refuses("/model/type", "Unigram", "expected BPE");
  refuses("/model/dropout", 0.1, "dropout");
  refuses("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  refuses("/model/continuing_subword_prefix", "##", "continuing_subword_prefix");
  refuses("/added_tokens/0/id", 301, "same id 301");
  refuses("/added_tokens/0/content", "hello", "two ids");
  refuses("/added_tokens/0/content", std::string(5000, 'x'), "5000 bytes");
  refuses("/post_processor", {{"type", "BertProcessing"}}, "TemplateProcessing");
  const Json template_b = {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "B"}}}}}}};
  refuses("/post_processor", template_b, "Sequence A");
  refuses("/model", nullptr, "model");
}

TEST(Tokenizer, UnusualButLegalFilesLoad) {
  const Json json = byte_level_fixture();
  EXPECT_EQ(make(with(json, "/model/vocab/x\u00ff\u00ff", 280)).vocab_size(), 304) << "ids may have holes";
  EXPECT_EQ(make(json).decode(Ids{'a', 290, 'b'}), "ab") << "an id in a hole decodes to nothing";
  EXPECT_EQ(make(with(json, "/model/end_of_word_suffix", "")).encode("hello"), Ids{259});
  EXPECT_EQ(make(with(json, "/model/dropout", 0)).encode("hello"), Ids{259});
  Json untyped = json;
  untyped["model"].erase("type");
  EXPECT_EQ(make(untyped).encode("hello"), Ids{259});
}

TEST(Tokenizer, AnyTruncationOfItsFileIsAnError) {
  const std::string text = llama_fixture().dump();
  for (size_t size = 0; size < text.size(); size += size < 1000 ? 1 : 37) {
    EXPECT_THROW(Tokenizer::from_json(std::string_view(text).substr(0, size)), DataError) << size;
  }
  EXPECT_THROW(Tokenizer::from_json(std::string(100'000, '[')), DataError);
  EXPECT_THROW(Tokenizer::from_json("{\"model\": \"\xff\"}"), DataError);
}

TEST(Tokenizer, ExponentialGrowthIsRefused) {
  const Json doubling = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  const Json byte_level = {{"type", "ByteLevel"}, {"use_regex", false}};
  const auto sequence = [](const char* key, const Json& step) {
    return Json{{"type", "Sequence"}, {key, std::vector<Json>(60, step)}};
  };
  const Json json = byte_level_fixture();
  const std::string text(1000, 'a');
  EXPECT_THROW(make(with(json, "/normalizer", sequence("normalizers", doubling))).encode(text), DataError);
  const std::string accents = "\u00e9\u00e9\u00e9\u00e9";
  EXPECT_THROW(make(with(json, "/pre_tokenizer", sequence("pretokenizers", byte_level))).encode(accents), DataError);
  const Tokenizer decoding = make(with(json, "/decoder", sequence("decoders", doubling)));
  EXPECT_THROW(decoding.decode(decoding.encode(text)), DataError);
}

// Whatever a field contains, the file loads and works or DataError is thrown: no other exception, no crash.
TEST(Tokenizer, WrongTypesAreDataErrors) {
  const Json values = {nullptr,
                       true,
                       -1,
                       5,
                       1e300,
                       "",
                       "x",
                       "\u2581",
                       Json::array(),
                       {{"type", "Sequence"}},
                       Json::object(),
                       {1, 2},
                       {{"String", "a"}}};
  for (const Json& fixture : {byte_level_fixture(), llama_fixture()}) {
    size_t num_errors = 0;
    const Json flat = fixture.flatten();
    for (const auto& [path, unused] : flat.items()) {
      const bool is_listed = path.starts_with("/model/vocab/") || path.starts_with("/model/merges/");
      if (is_listed && path.size() % 4 != 0) continue;
      for (Json::json_pointer at(path); !at.empty(); at.pop_back()) {
        for (const Json& value : values) {
          Json json = fixture;
          json[at] = value;
          try {
            const Tokenizer tokenizer = make(json);
            tokenizer.decode(tokenizer.encode("hello \u2581é<s><|end|>"));
          } catch (const DataError&) {
            ++num_errors;
          }
        }
        if (is_listed) break;
      }
    }
    EXPECT_GT(num_errors, 100u);
  }
}

TEST(Tokenizer, InvalidTextIsRefusedWithItsOffset) {
  const Tokenizer tokenizer = make(byte_level_fixture());
  for (const char* bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\xbc", "\x80", "\xf0\x9f\x99"}) {
    try {
      tokenizer.encode(std::string("abcdefghi") + bad);
      FAIL() << "accepted invalid UTF-8";
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("byte 9"), std::string::npos) << error.what();
    }
  }
  EXPECT_NO_THROW(check_utf8("é漢🙂\xf4\x8f\xbf\xbf", "text"));
  EXPECT_THROW(tokenizer.decode(Ids{-1}), DataError);
  EXPECT_THROW(tokenizer.decode(Ids{304}), DataError);
}

TEST(Tokenizer, ByteLevelTextRoundTrips) {
  Json split = byte_level_fixture();
  const char* llama3 =
      "(?i:'s|'t|'re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  split["pre_tokenizer"] = {{"type", "Sequence"},
                            {"pretokenizers",
                             {{{"type", "Split"}, {"pattern", {{"Regex", llama3}}}, {"behavior", "Isolated"}},
                              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  std::mt19937 random(20);
  for (const Tokenizer& tokenizer : {make(byte_level_fixture()), make(split)}) {
    for (int i = 0; i < 2000; ++i) {
      const std::string text = random_text(random);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(MarkedText{text, {{0, text.size()}}})), text);
    }
  }
}

// Decoding strips the leading space that encoding adds; U+2581 itself decodes to a space.
TEST(Tokenizer, ByteFallbackTextRoundTrips) {
  const Tokenizer tokenizer = make(llama_fixture());
  std::mt19937 random(21);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, false)), text);
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\u2581", false)), "a ");
}

// Long texts are split before U+2581, unless a merge joins it to a character before it.
TEST(Tokenizer, SplitsLongTextsWhereNothingMerges) {
  Json json = llama_fixture();
  json["model"]["vocab"]["z"] = 277;
  Json other = json;
  other["model"]["vocab"]["z\u2581"] = 278;
  other["model"]["merges"].push_back("z \u2581");
  const Tokenizer split = make(json), whole = make(other);
  std::mt19937 random(5);
  for (int i = 0; i < 2000; ++i) {
    std::string text = random_text(random) + "  hello ab\u2581\u2581a " + random_text(random);
    std::erase(text, 'z');
    ASSERT_EQ(split.encode(text), whole.encode(text)) << text;
  }
  const Ids ids = whole.encode("hello hello hello hello hello z z");
  EXPECT_EQ(Ids(ids.end() - 2, ids.end()), (Ids{278, 277}));
}

TEST(Tokenizer, MergesOneLongWordFast) {
  const Tokenizer tokenizer = make(llama_fixture());
  std::string text;
  for (int i = 0; i < 500'000; ++i) text += i % 3 == 0 ? "ab" : "hel";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false)), text);
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Tokenizer one = make(byte_level_fixture()), other = make(llama_fixture());
  std::vector<std::string> texts;
  std::mt19937 random(22);
  for (int i = 0; i < 500; ++i) texts.push_back(random_text(random));
  const auto encode_all = [&] {
    std::vector<Ids> all;
    for (const std::string& text : texts) all.push_back(one.encode(text)), all.push_back(other.encode(text));
    return all;
  };
  const std::vector<Ids> expected = encode_all();
  std::vector<std::vector<Ids>> found(3);
  std::vector<std::thread> threads;
  for (auto& result : found) threads.emplace_back([&] { result = encode_all(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : found) EXPECT_EQ(result, expected);
}

}  // namespace
}  // namespace plumb
