#include "lib/tokenizer/decoder.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using Json = nlohmann::json;

std::string decoded(const Json& decoder, std::vector<std::string> tokens) {
  return decode_tokens(parse_decoder(decoder, "test"), std::move(tokens));
}

Json strip(int start, int stop) { return {{"type", "Strip"}, {"content", "_"}, {"start", start}, {"stop", stop}}; }
Json metaspace(const std::string& scheme) {
  return {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", scheme}};
}

// The expected texts in this file come from tokenizers 0.23.
TEST(Decoder, ByteLevelJoinsBytesAcrossTokens) {
  const Json byte_level = {{"type", "ByteLevel"}};
  EXPECT_EQ(decoded(byte_level, {"Ã", "©", "Ġa"}), "é a");
  EXPECT_EQ(decoded(byte_level, {"x y", "â", "漢"}), "x y\uFFFD漢")
      << "other characters stay, stray bytes are replaced";
  EXPECT_EQ(decoded(byte_level, {}), "");
}

TEST(Decoder, ByteFallbackReplacesEveryByteOfAnInvalidRun) {
  const Json fallback = {{"type", "ByteFallback"}};
  EXPECT_EQ(decoded(fallback, {"<0xE2>", "<0x82>", "<0xAC>", "a"}), "€a");
  EXPECT_EQ(decoded(fallback, {"<0xE2>", "<0x82>", "<0x0g>", "<0x41>"}), "\uFFFD\uFFFD<0x0g>A");
}

TEST(Decoder, StripsReplacesAndFuses) {
  EXPECT_EQ(decoded(strip(1, 1), {"__a__", "_b"}), "_a_b");
  EXPECT_EQ(decoded(strip(2, 9), {"_"}), "");
  EXPECT_EQ(decoded(metaspace("always"), {"▁a▁b", "▁c"}), "ab c");
  EXPECT_EQ(decoded(metaspace("never"), {"▁a▁b", "▁c"}), " a b c");
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
  const Json sequence = {{"type", "Sequence"}, {"decoders", {replace, {{"type", "Fuse"}}, strip(1, 0)}}};
  EXPECT_EQ(decoded(sequence, {"_▁a", "_b"}), " a_b") << "fused tokens are stripped once";
}

TEST(Decoder, RefusesUnknownTypes) {
  EXPECT_THROW(decoded({{"type", "WordPiece"}}, {}), DataError);
  EXPECT_THROW(decoded(strip(-1, 0), {}), DataError);
  EXPECT_THROW(decoded({{"type", "Strip"}, {"content", ""}, {"start", 0}, {"stop", 0}}, {}), DataError);
  EXPECT_THROW(decoded(nullptr, {}), DataError);
}

}  // namespace
}  // namespace plumb
