#include "lib/tokenizer/pre_tokenizer.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using Json = nlohmann::json;
using Words = std::vector<std::string>;

Words words(const Json& pre_tokenizer, const std::string& text) {
  Pieces pieces{text, {{0, text.size()}}, true};
  pre_tokenize(parse_pre_tokenizer(pre_tokenizer, "test"), pieces);
  Words found;
  for (size_t i = 0; i < pieces.ranges.size(); ++i) found.emplace_back(pieces.piece(i));
  return found;
}

Json split(const Json& pattern, const std::string& behavior, bool is_inverted = false) {
  return {{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", is_inverted}};
}
Json regex(const std::string& expression) { return {{"Regex", expression}}; }
Json literal(const std::string& text) { return {{"String", text}}; }
Words isolated(const std::string& expression, const std::string& text) {
  return words(split(regex(expression), "Isolated"), text);
}
Json sequence(std::vector<Json> parts) { return {{"type", "Sequence"}, {"pretokenizers", parts}}; }
Json metaspace(const std::string& scheme, bool splits) {
  return {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}, {"split", splits}};
}

// The expected words in this file come from tokenizers 0.23.
TEST(PreTokenizer, SplitsByEachBehavior) {
  const std::string text = "the-final--countdown-";
  EXPECT_EQ(words(split(literal("-"), "Removed"), text), (Words{"the", "final", "countdown"}));
  EXPECT_EQ(words(split(literal("-"), "Isolated"), text), (Words{"the", "-", "final", "-", "-", "countdown", "-"}));
  EXPECT_EQ(words(split(literal("-"), "MergedWithPrevious"), text), (Words{"the-", "final-", "-", "countdown-"}));
  EXPECT_EQ(words(split(literal("-"), "MergedWithNext"), text), (Words{"the", "-final", "-", "-countdown", "-"}));
  EXPECT_EQ(words(split(literal("-"), "Contiguous"), text), (Words{"the", "-", "final", "--", "countdown", "-"}));
}

TEST(PreTokenizer, InvertedPatternFindsTheWords) {
  const Json letters = regex("[a-z]+");
  EXPECT_EQ(words(split(letters, "Removed", true), "-the--end"), (Words{"the", "end"}));
  EXPECT_EQ(words(split(letters, "Isolated", true), "-the--end"), (Words{"-", "the", "--", "end"}));
  EXPECT_EQ(words(split(letters, "MergedWithPrevious", true), "-the--end"), (Words{"-", "the--", "end"}));
  EXPECT_EQ(words(split(letters, "MergedWithNext", true), "-the--end"), (Words{"-the", "--end"}));
}

TEST(PreTokenizer, EmptyMatchesSplitWithoutEmptyWords) {
  EXPECT_EQ(words(split(regex("\\w*?"), "MergedWithPrevious"), "ab-"), (Words{"a", "b", "-"}));
}

TEST(PreTokenizer, ByteLevelWritesBytesAsPrintableCharacters) {
  const Json plain = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(words(plain, "Hey, you'll  see\n\n 42!é"),
            (Words{"Hey", ",", "Ġyou", "'ll", "Ġ", "Ġsee", "ĊĊ", "Ġ42", "!", "Ã©"}));
  EXPECT_EQ(words({{"type", "ByteLevel"}}, "Hey"), Words{"ĠHey"});
  EXPECT_EQ(words({{"type", "ByteLevel"}, {"use_regex", false}}, "a b"), Words{"ĠaĠb"});
}

TEST(PreTokenizer, MetaspaceMarksSpacesAndTheStart) {
  EXPECT_EQ(words(metaspace("always", true), " a  b"), (Words{"▁a", "▁", "▁b"}));
  EXPECT_EQ(words(metaspace("always", true), "a b"), (Words{"▁a", "▁b"}));
  EXPECT_EQ(words(metaspace("never", true), "a b"), (Words{"a", "▁b"}));
  EXPECT_EQ(words(metaspace("first", false), "a b"), Words{"▁a▁b"});
  const Json split_first = sequence({{{"type", "WhitespaceSplit"}}, metaspace("first", true)});
  EXPECT_EQ(words(split_first, "a b"), (Words{"▁a", "b"}));
  EXPECT_EQ(words(split_first, " a b"), (Words{"a", "b"})) << "the first word does not start the text";
}

TEST(PreTokenizer, SplitsDigitsWhitespaceAndPunctuation) {
  EXPECT_EQ(words({{"type", "Digits"}, {"individual_digits", true}}, "a12b"), (Words{"a", "1", "2", "b"}));
  EXPECT_EQ(words({{"type", "Digits"}}, "a12Ⅷb"), (Words{"a", "12Ⅷ", "b"}));
  EXPECT_EQ(words({{"type", "Whitespace"}}, "Hey, é_1 +-= x"), (Words{"Hey", ",", "é_1", "+-=", "x"}));
  EXPECT_EQ(words({{"type", "WhitespaceSplit"}}, " a\u3000b\u180ec "), (Words{"a", "b\u180ec"}));
  EXPECT_EQ(words({{"type", "Punctuation"}}, "a--b$c。"), (Words{"a", "-", "-", "b", "$", "c", "。"}));
}

TEST(PreTokenizer, ReadsRegexesAsOniguruma) {
  EXPECT_EQ(isolated("\\s", "a\u180eb\u0085c"), (Words{"a\u180eb", "\u0085", "c"})) << "U+180E is no white space";
  EXPECT_EQ(isolated("\\w+", "-e\u0301²‿-"), (Words{"-", "e\u0301²‿", "-"})) << "marks and connectors are of words";
  EXPECT_EQ(isolated("[\\w]+", "a²"), (Words{"a", "²"}));
  EXPECT_EQ(isolated("\\h+", "xfeg"), (Words{"x", "fe", "g"})) << "\\h is a hexadecimal digit";
  EXPECT_EQ(isolated("^.", "ab\ncd"), (Words{"a", "b\n", "c", "d"})) << "^ matches at every line";
  EXPECT_EQ(isolated("(?m:a.b)", "xa\nb"), (Words{"x", "a\nb"})) << "m lets . match a newline";
  EXPECT_EQ(isolated("\\p{Han}+", "a漢・b"), (Words{"a", "漢", "・b"})) << "a script without its extensions";
  EXPECT_EQ(isolated("[\\u4e00-\\u9fff]+", "a漢b"), (Words{"a", "漢", "b"}));
  EXPECT_EQ(isolated("\\p{^L}+|\\p{Number}", "a--b"), (Words{"a", "--", "b"}));
  EXPECT_EQ(isolated("\\b", "ab c"), (Words{"ab", " ", "c"}));
  EXPECT_EQ(isolated("a{,2}b", "aaab"), (Words{"a", "aab"}));
  EXPECT_EQ(isolated("[^(\\s|[.,])]+", "ab.c (d"), (Words{"ab", ".", "c", " (", "d"})) << "a class within a class";
  EXPECT_EQ(isolated("\\v", "a\x0b\nb"), (Words{"a", "\x0b", "\nb"}));
}

TEST(PreTokenizer, RefusesUnsupportedRegexes) {
  for (const char* expression : {"(", "[a&&b]", "[a[^b]]", "[a-[b]]", "[[b]-c]", "a{1,2}+", "[\\W]", "(?<=a+)b", "\\",
                                 "[", "\\p{Nonsense}", "(?:(?:ab){1000}){1000}", "\\C"}) {
    EXPECT_THROW(isolated(expression, "text"), DataError) << expression;
  }
  EXPECT_THROW(isolated(std::string(1 << 20, '('), "text"), DataError);
  EXPECT_THROW(words(split(literal(""), "Isolated"), "text"), DataError);
}

TEST(PreTokenizer, StopsRegexesThatBacktrackForever) {
  EXPECT_THROW(isolated("(a|aa)+$", std::string(60, 'a') + "b"), DataError);
}

TEST(PreTokenizer, ErrorsListSupportedTypes) {
  try {
    words({{"type", "UnicodeScripts"}}, "a");
    FAIL() << "accepted UnicodeScripts";
  } catch (const DataError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("UnicodeScripts"), std::string::npos) << message;
    EXPECT_NE(message.find("WhitespaceSplit"), std::string::npos) << message;
  }
  EXPECT_THROW(words({{"type", "Split"}, {"pattern", literal("a")}, {"behavior", "Gone"}}, "a"), DataError);
  EXPECT_THROW(words({{"type", "Metaspace"}, {"replacement", "ab"}}, "a"), DataError);
  EXPECT_THROW(words({{"type", "Metaspace"}, {"replacement", "_"}, {"prepend_scheme", "last"}}, "a"), DataError);
  Json deep = {{"type", "Digits"}};
  for (int i = 0; i < 100; ++i) deep = sequence({deep});
  EXPECT_THROW(words(deep, "a"), DataError);
}

}  // namespace
}  // namespace plumb
