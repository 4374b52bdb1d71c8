#include "lib/tokenizer/token_ranges.hpp"

#include <gtest/gtest.h>

namespace plumb {
namespace {

/// The pieces of `text` that the tokens are, joined by "|"; "none" if they do not fit.
std::string pieces(const std::vector<TokenText>& tokens, const std::string& text) {
  const std::optional<std::vector<ByteRange>> ranges = find_token_ranges(tokens, text);
  if (!ranges) return "none";
  std::string joined;
  for (const ByteRange& range : *ranges) joined += text.substr(range.begin, range.end - range.begin) + "|";
  return joined;
}

TEST(TokenRanges, TokensFollowEachOther) {
  EXPECT_EQ(pieces({{"ab"}, {" c"}, {"\n"}}, "ab c\n"), "ab| c|\n|");
  EXPECT_EQ(pieces({}, ""), "");
}

TEST(TokenRanges, ASpaceThatATokenizerPutsFirstIsNoText) {
  EXPECT_EQ(pieces({{" Once"}, {" upon"}}, "Once upon"), "Once| upon|");
  EXPECT_EQ(pieces({{" "}, {" Once"}}, " Once"), " |Once|");
  EXPECT_EQ(pieces({{"<s>", true}, {" a"}}, "<s>a"), "<s>|a|");
}

TEST(TokenRanges, ControlTokensAroundTheTextAreEmpty) {
  EXPECT_EQ(pieces({{"<s>", true}, {"a"}, {"</s>", true}}, "a"), "|a||");
}

TEST(TokenRanges, WhiteSpaceThatAControlTokenConsumedIsOfNone) {
  EXPECT_EQ(pieces({{"a"}, {"<end>", true}, {"b"}}, "a<end>\n b"), "a|<end>|b|");
  EXPECT_EQ(pieces({{"a"}, {"<mask>", true}}, "a <mask>\n"), "a|<mask>|");
}

TEST(TokenRanges, RewrittenTextHasNone) {
  EXPECT_EQ(pieces({{"e\u0301"}}, "\u00e9"), "none");
  EXPECT_EQ(pieces({{"a"}}, "ab"), "none");
}

TEST(TokenRanges, TheTokenAtAByteIsTheFirstThatEndsAfterIt) {
  const std::vector<ByteRange> ranges = {{0, 0}, {0, 2}, {2, 2}, {2, 3}};
  EXPECT_EQ(token_at(ranges, 0), 1u);
  EXPECT_EQ(token_at(ranges, 1), 1u);
  EXPECT_EQ(token_at(ranges, 2), 3u);
  EXPECT_EQ(token_at(ranges, 3), 4u);
}

TEST(TokenRanges, TokensStandForBytes) {
  EXPECT_EQ(bytes_of_token("\u0120a\u010a\u00c3\u00a9", true), " a\n\u00e9");
  EXPECT_EQ(bytes_of_token("\u2581a", false), " a");
  EXPECT_EQ(bytes_of_token("<0x0A>", false), "\n");
  EXPECT_EQ(bytes_of_token("<0xZZ>", false), "<0xZZ>");
}

}  // namespace
}  // namespace plumb
