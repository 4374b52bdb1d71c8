#include "io/gguf/gguf_tokenizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "lib/base/check.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using Strings = std::vector<std::string>;

constexpr const char* kRoles = R"({"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|end|>"})";
constexpr const char* kLlamaRoles = R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})";

struct Written {
  std::map<std::string, GgufValue> metadata;
  Strings notes;

  template <class T>
  T get(const std::string& key) const {
    return std::get<T>(metadata.at("tokenizer." + key));
  }
  uint32_t id(const std::string& role) const { return get<uint32_t>("ggml." + role + "_token_id"); }
};

Written written(const Json& tokenizer, const std::string& config, int64_t vocab_size,
                const std::vector<int32_t>& end_ids = {}) {
  const GgufTokenizer result =
      gguf_tokenizer(read_tokenizer({.tokenizer_json = tokenizer.dump(), .tokenizer_config = config},
                                    TokenizerBehavior::kTransformers5),
                     end_ids, vocab_size, "DIR");
  return {{result.metadata.begin(), result.metadata.end()}, result.notes};
}

Json with(Json tokenizer, const char* key, Json value) {
  tokenizer[key] = std::move(value);
  return tokenizer;
}

TEST(GgufTokenizer, WritesByteLevelTokensTypesAndMerges) {
  const Written gguf = written(byte_level_fixture(), kRoles, 310);
  EXPECT_EQ(gguf.get<std::string>("ggml.model"), "gpt2");
  EXPECT_EQ(gguf.get<std::string>("ggml.pre"), "gpt-2");
  const auto tokens = gguf.get<Strings>("ggml.tokens");
  const auto types = gguf.get<std::vector<int32_t>>("ggml.token_type");
  ASSERT_EQ(tokens.size(), 310u);
  ASSERT_EQ(types.size(), 310u);
  const std::vector<std::tuple<int, std::string, int>> expected = {
      {' ', "Ġ", 1},         {'a', "a", 1},      {260, "Ġhello", 1},  {290, "[PAD290]", 5},
      {301, "<|start|>", 3}, {303, "<tool>", 4}, {309, "[PAD309]", 5}};
  for (const auto& [id, text, type] : expected) {
    EXPECT_EQ(tokens[id], text);
    EXPECT_EQ(types[id], type) << text;
  }
  EXPECT_EQ(gguf.get<Strings>("ggml.merges"),
            Strings({"l l", "h e", "he ll", "hell o", "Ġ hello", "a b", "ab ab", "a a"}));
  EXPECT_FALSE(gguf.metadata.contains("tokenizer.ggml.scores"));
  EXPECT_FALSE(gguf.get<bool>("ggml.add_bos_token"));
  EXPECT_FALSE(gguf.get<bool>("ggml.add_space_prefix"));
  EXPECT_EQ(gguf.id("bos"), 300u);
  EXPECT_EQ(gguf.id("eos"), 302u);
  EXPECT_EQ(gguf.id("padding"), 302u);
  EXPECT_FALSE(gguf.metadata.contains("tokenizer.ggml.eot_token_id"));
  EXPECT_EQ(gguf.notes, Strings());
}

TEST(GgufTokenizer, WritesSentencePieceTokensWithScoresByMerge) {
  const Written gguf = written(llama_fixture(), kLlamaRoles, 277);
  EXPECT_EQ(gguf.get<std::string>("ggml.model"), "llama");
  const auto tokens = gguf.get<Strings>("ggml.tokens");
  const auto types = gguf.get<std::vector<int32_t>>("ggml.token_type");
  const auto scores = gguf.get<std::vector<float>>("ggml.scores");
  EXPECT_EQ(types[0], 2);  // <unk>
  EXPECT_EQ(types[1], 3);
  EXPECT_EQ(types[3 + 0x41], 6);  // <0x41>
  const auto score = [&](const std::string& text) {
    return scores[std::find(tokens.begin(), tokens.end(), text) - tokens.begin()];
  };
  EXPECT_GT(score("▁h"), score("el"));
  EXPECT_GT(score("el"), score("▁hello"));
  EXPECT_GT(score("▁a"), score("▁ab"));
  EXPECT_TRUE(gguf.get<bool>("ggml.add_bos_token"));
  EXPECT_FALSE(gguf.get<bool>("ggml.add_eos_token"));
  EXPECT_TRUE(gguf.get<bool>("ggml.add_space_prefix"));
  EXPECT_EQ(gguf.id("unknown"), 0u);
  EXPECT_EQ(gguf.notes, Strings());
}

TEST(GgufTokenizer, SaysWhatLlamaCppMergesWithoutAMerge) {
  Json tokenizer = llama_fixture();
  tokenizer["model"]["merges"].erase(9);  // "▁ ab" to "▁ab", which "▁a b" also makes
  const Written gguf = written(tokenizer, kLlamaRoles, 277);
  ASSERT_EQ(gguf.notes.size(), 1u);
  EXPECT_EQ(gguf.notes[0], "llama.cpp merges 1 pairs of tokens that the merges do not have");
}

TEST(GgufTokenizer, NamesThePreTokenizerOfLlamaCpp) {
  const auto split = [](const std::string& expression, const char* behavior = "Isolated", bool is_inverted = false) {
    return Json{
        {"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", behavior}, {"invert", is_inverted}};
  };
  const auto bytes = [](bool has_words) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", has_words}};
  };
  const auto pre = [&](std::vector<Json> steps, bool ignores_merges = false) {
    Json tokenizer = with(byte_level_fixture(), "pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}});
    tokenizer["model"]["ignore_merges"] = ignores_merges;
    return written(tokenizer, kRoles, 310).get<std::string>("ggml.pre");
  };
  const std::string words = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  const std::string symbols = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string llama3 = words + R"(\p{N}{1,3})" + symbols, qwen2 = words + R"(\p{N})" + symbols;
  EXPECT_EQ(pre({split(llama3), bytes(false)}, true), "llama-bpe");
  EXPECT_EQ(pre({split(llama3), bytes(false)}, false), "dbrx");
  EXPECT_EQ(pre({split(llama3, "Removed", true), bytes(false)}, true), "llama-bpe");
  EXPECT_EQ(pre({split(qwen2), bytes(false)}), "qwen2");
  EXPECT_EQ(pre({{{"type", "Digits"}, {"individual_digits", true}}, bytes(true)}), "smollm");
  const std::string message = message_of<DataError>([&] { pre({split("[a-z]+"), bytes(false)}); });
  expect_contains(message, {"DIR: GGUF: expected the pre_tokenizer", "llama-bpe", "tekken"});
  EXPECT_THROW(pre({{{"type", "ByteLevel"}, {"add_prefix_space", true}}}), DataError);
}

TEST(GgufTokenizer, SaysWhereMergesAreIgnoredOtherwise) {
  Json tokenizer = byte_level_fixture();
  tokenizer["model"]["ignore_merges"] = true;
  EXPECT_EQ(written(tokenizer, kRoles, 310).notes, Strings());  // every word of it is what its merges make
  tokenizer["model"]["vocab"]["xyz"] = 290;
  ASSERT_EQ(written(tokenizer, kRoles, 310).notes.size(), 1u);
  EXPECT_EQ(written(tokenizer, kRoles, 310).notes[0],
            "llama.cpp makes other tokens of 1 words, as its 'gpt-2' has no ignore_merges");
}

TEST(GgufTokenizer, NamesTheOtherEndsOfText) {
  Json tokenizer = byte_level_fixture();
  tokenizer["added_tokens"].push_back(added_token(304, "<|im_end|>", true));  // llama.cpp knows it by its text
  const Written gguf = written(tokenizer, kRoles, 310, {304, 301, 302, 300, 65});
  EXPECT_EQ(gguf.id("eos"), 302u);
  EXPECT_EQ(gguf.id("eot"), 301u);
  EXPECT_EQ(gguf.id("eom"), 300u);
  EXPECT_EQ(gguf.notes, Strings({"llama.cpp does not end texts at 'A'"}));
}

TEST(GgufTokenizer, SaysWhatItLeavesOut) {
  Json tokenizer = byte_level_fixture();
  tokenizer["added_tokens"][3]["lstrip"] = true;
  tokenizer["normalizer"] = {{"type", "NFC"}};
  const Written gguf = written(tokenizer, kRoles, 302);
  EXPECT_EQ(gguf.get<Strings>("ggml.tokens").size(), 302u);
  EXPECT_EQ(gguf.notes, Strings({"llama.cpp does not bring text into the Unicode form NFC",
                                 "llama.cpp knows no lstrip, rstrip and single_word, which 1 added tokens have",
                                 "2 tokens are left out, as the model has no rows for ids from 302"}));
  EXPECT_FALSE(gguf.metadata.contains("tokenizer.ggml.eos_token_id"));
}

TEST(GgufTokenizer, KeepsUnusedTokensApart) {
  Json tokenizer = byte_level_fixture();
  tokenizer["added_tokens"].push_back(added_token(304, "[PAD305]", true));
  const auto tokens = written(tokenizer, kRoles, 310).get<Strings>("ggml.tokens");
  EXPECT_EQ(tokens[304], "[PAD305]");
  EXPECT_EQ(tokens[305], "[PAD305]_");
}

TEST(GgufTokenizer, SaysThatASpaceGoesFirstElsewhereToo) {
  Json tokenizer = llama_fixture();
  tokenizer["normalizer"] = nullptr;
  const auto metaspace = [](const char* scheme) {
    return Json{{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", false}};
  };
  const Written first = written(with(tokenizer, "pre_tokenizer", metaspace("first")), kLlamaRoles, 277);
  EXPECT_TRUE(first.get<bool>("ggml.add_space_prefix"));
  ASSERT_EQ(first.notes.size(), 1u);
  EXPECT_NE(first.notes[0].find("also after control tokens"), std::string::npos);
  const Written never = written(with(tokenizer, "pre_tokenizer", metaspace("never")), kLlamaRoles, 277);
  EXPECT_FALSE(never.get<bool>("ggml.add_space_prefix"));
  EXPECT_EQ(never.notes, Strings());
}

TEST(GgufTokenizer, RefusesWhatLlamaCppHasNoLikeOf) {
  const auto refusal = [](const Json& tokenizer) {
    return message_of<DataError>([&] { written(tokenizer, "", 400); });
  };
  expect_contains(refusal(with(byte_level_fixture(), "normalizer", {{"type", "Lowercase"}})),
                  {"DIR: GGUF: expected no normalizer or NFC"});
  Json tokenizer = llama_fixture();
  tokenizer["normalizer"] = nullptr;
  expect_contains(refusal(tokenizer), {"expected the normalizer and pre_tokenizer of Llama 2"});
  tokenizer = llama_fixture();
  tokenizer["model"]["vocab"].erase("<0x41>");
  expect_contains(refusal(tokenizer), {"got no <0x41>"});
  tokenizer = llama_fixture();
  tokenizer["model"]["byte_fallback"] = false;
  expect_contains(refusal(tokenizer), {"with byte_fallback"});
  tokenizer = llama_fixture();
  tokenizer["added_tokens"].push_back(added_token(300, "x▁y", false));
  tokenizer["added_tokens"].push_back(added_token(301, "x y", false));
  expect_contains(refusal(tokenizer), {"got 'x y' again with the id 301"});
}

}  // namespace
}  // namespace plumb
