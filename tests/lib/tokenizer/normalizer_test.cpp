#include "lib/tokenizer/normalizer.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using Json = nlohmann::json;

std::string normalized(const Json& normalizer, std::string text) {
  normalize(parse_normalizer(normalizer, "test"), text, nullptr);
  return text;
}

Json replace(const Json& pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", pattern}, {"content", content}};
}

// Llama's normalizer: a mark before the text and in place of every space.
Json llama() {
  return {{"type", "Sequence"},
          {"normalizers", {{{"type", "Prepend"}, {"prepend", "▁"}}, replace({{"String", " "}}, "▁")}}};
}

// The text with its flags, '-' for template bytes and 'u' for user bytes.
std::string flagged(const Json& normalizer, std::string text, std::string flags) {
  for (char& flag : flags) flag = flag == 'u' ? '\1' : '\0';
  normalize(parse_normalizer(normalizer, "test"), text, &flags);
  EXPECT_EQ(text.size(), flags.size());
  for (char& flag : flags) flag = flag != '\0' ? 'u' : '-';
  return text + " " + flags;
}

TEST(Normalizer, NormalizesToUnicodeForms) {
  EXPECT_EQ(normalized({{"type", "NFC"}}, "xe\u0301q\u0323\u0307 y"), "x\u00e9q\u0323\u0307 y");
  EXPECT_EQ(normalized({{"type", "NFC"}}, "q\u0307\u0323"), "q\u0323\u0307") << "marks are ordered by class";
  EXPECT_EQ(normalized({{"type", "NFC"}}, "\u1112\u1161\u11ab"), "한");
  EXPECT_EQ(normalized({{"type", "NFC"}}, "ﬁ²"), "ﬁ²");
  EXPECT_EQ(normalized({{"type", "NFD"}}, "é한"), "e\u0301\u1112\u1161\u11ab");
  EXPECT_EQ(normalized({{"type", "NFKC"}}, "ﬁⅧ²"), "fiVIII2");
  EXPECT_EQ(normalized({{"type", "NFKD"}}, "ﬁé"), "fie\u0301");
}

TEST(Normalizer, OrdersLongRunsOfMarksFast) {
  std::string text = "q";
  for (int i = 0; i < 500'000; ++i) text += "\u0307\u0323";
  const std::string ordered = normalized({{"type", "NFC"}}, text);
  EXPECT_EQ(ordered.size(), text.size());
  EXPECT_TRUE(ordered.ends_with("\u0307\u0307")) << "the class of U+0307 is the higher one";
}

TEST(Normalizer, LowersStripsReplacesAndPrepends) {
  EXPECT_EQ(normalized({{"type", "Lowercase"}}, "İÀΣ"), "i\u0307àσ");
  EXPECT_EQ(normalized({{"type", "Strip"}, {"strip_right", false}}, "\u3000a "), "a ");
  EXPECT_EQ(normalized({{"type", "Strip"}}, " \u00a0a \n"), "a");
  EXPECT_EQ(normalized({{"type", "Strip"}}, " \n"), "");
  EXPECT_EQ(normalized(replace({{"Regex", "a+"}}, "$0"), "caaat"), "c$0t") << "the content is literal";
  EXPECT_EQ(normalized(llama(), "a b"), "▁a▁b");
  EXPECT_EQ(normalized(llama(), ""), "");
  EXPECT_EQ(normalized(nullptr, "A b"), "A b");
}

TEST(Normalizer, KeepsUserFlagsInStep) {
  EXPECT_EQ(flagged(llama(), "a b", "-uu"), "▁a▁b ----uuuu");
  EXPECT_EQ(flagged({{"type", "NFC"}}, ">e\u0301>", "-uuu-"), ">\u00e9> -uu-");
  EXPECT_EQ(flagged({{"type", "NFC"}}, "é>\u0301a",
                    "--"
                    "-"
                    "uu"
                    "-"),
            "é>\u0301a ---uu-")
      << "a user's mark does not take over the character before it";
  EXPECT_EQ(flagged({{"type", "Strip"}}, " a ", "u-u"), "a -");
  EXPECT_EQ(flagged({{"type", "Lowercase"}}, "ÀB", "uu-"), "àb uu-");
  EXPECT_EQ(flagged(replace({{"Regex", "ab"}}, "xyz"), "aabb", "--u-"), "axyzb -uuu-");
}

TEST(Normalizer, RefusesUnknownTypes) {
  EXPECT_THROW(normalized({{"type", "Precompiled"}, {"precompiled_charsmap", ""}}, "a"), DataError);
  EXPECT_THROW(normalized({{"type", "Prepend"}}, "a"), DataError);
  EXPECT_THROW(normalized(replace({{"Glob", "*"}}, "a"), "a"), DataError);
  EXPECT_THROW(normalized("NFC", "a"), DataError);
  EXPECT_THROW(normalized({{"type", "Sequence"}, {"normalizers", 3}}, "a"), DataError);
}

}  // namespace
}  // namespace plumb
