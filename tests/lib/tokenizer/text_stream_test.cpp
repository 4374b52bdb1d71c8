#include "lib/tokenizer/text_stream.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "lib/base/utf8.hpp"

namespace plumb {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

/// "a", "b", and the three bytes of U+20AC, as byte-level BPE writes them.
Tokenizer byte_tokenizer() {
  return Tokenizer::from_json(R"({
    "added_tokens": [{"id": 5, "content": "<end>", "special": true}],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "\u00e2": 2, "\u0124": 3, "\u00ac": 4}, "merges": []}
  })");
}

/// Llama 2's decoder, which drops the space before the first word.
Tokenizer word_tokenizer() {
  return Tokenizer::from_json(R"({
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "vocab": {"\u2581one": 0, "\u2581two": 1}, "merges": []}
  })");
}

TEST(TextStream, CharactersAppearWithTheirLastByte) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer, std::vector<int32_t>{0});
  EXPECT_EQ(stream.push(1), "b");
  EXPECT_EQ(stream.push(2), "");
  EXPECT_EQ(stream.push(3), "");
  EXPECT_EQ(stream.push(4), "\u20AC");
  EXPECT_EQ(stream.push(0), "a");
  EXPECT_EQ(stream.pending(), "");
}

TEST(TextStream, IncompleteCharactersArePending) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer, std::vector<int32_t>{});
  EXPECT_EQ(stream.push(2), "");
  EXPECT_EQ(stream.pending(), kReplacement);
}

TEST(TextStream, InvalidBytesDoNotAccumulate) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer, std::vector<int32_t>{0});
  std::string text;
  for (int i = 0; i < 8; ++i) text += stream.push(4);
  EXPECT_EQ(text, std::string(kReplacement) + kReplacement + kReplacement + kReplacement + kReplacement + kReplacement +
                      kReplacement + kReplacement);
}

TEST(TextStream, PiecesAreWholeCharacters) {
  const Tokenizer tokenizer = byte_tokenizer();
  uint32_t random = 1;
  for (int trial = 0; trial < 2000; ++trial) {
    TextStream stream(tokenizer, std::vector<int32_t>{0});
    std::string text;
    for (int i = 0; i < 12; ++i) {
      random = random * 1664525u + 1013904223u;
      const std::string piece = stream.push(static_cast<int32_t>(random >> 24) % 5);
      EXPECT_NO_THROW(check_utf8(piece, "piece"));
      text += piece;
    }
    EXPECT_NO_THROW(check_utf8(text + stream.pending(), "text"));
  }
}

TEST(TextStream, SpacesBetweenPromptAndTextStay) {
  const Tokenizer tokenizer = word_tokenizer();
  TextStream stream(tokenizer, std::vector<int32_t>{0});
  EXPECT_EQ(stream.push(1), " two");
  EXPECT_EQ(stream.push(0), " one");
  TextStream from_nothing(tokenizer, std::vector<int32_t>{});
  EXPECT_EQ(from_nothing.push(0), "one");
  EXPECT_EQ(from_nothing.push(1), " two");
}

TEST(TextStream, ControlTokensAreOmitted) {
  const Tokenizer tokenizer = byte_tokenizer();
  TextStream stream(tokenizer, std::vector<int32_t>{5});
  EXPECT_EQ(stream.push(5), "");
  EXPECT_EQ(stream.push(0), "a");
}

}  // namespace
}  // namespace plumb
