#include "lib/tokenizer/sentencepiece_model.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "lib/base/check.hpp"
#include "lib/tokenizer/tokenizer.hpp"
#include "tests/lib/tokenizer/tokenizer_fixture.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using Ids = std::vector<int32_t>;

// Writes just enough of protobuf for a model.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string number_field(uint64_t number, int64_t value) {
  return varint(number << 3) + varint(static_cast<uint64_t>(value));
}
std::string bytes_field(uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string piece_field(const std::string& text, float score, int type) {
  std::string piece = bytes_field(1, text) + varint(2 << 3 | 5);
  for (int shift = 0; shift < 32; shift += 8) {
    piece.push_back(static_cast<char>(std::bit_cast<uint32_t>(score) >> shift));
  }
  return bytes_field(1, piece + number_field(3, type));
}

struct ModelOptions {
  int model_type = 2;
  bool falls_back_to_bytes = true;
  bool adds_prefix = true;
  bool removes_spaces = false;
  std::string charsmap;
  std::string more_pieces;
};

// llama_fixture() as a tokenizer.model.
std::string model_bytes(const ModelOptions& options = {}) {
  std::string bytes = piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) bytes += piece_field(fmt::format("<0x{:02X}>", byte), 0, 6);
  float score = 0;
  for (const std::string& piece : sentencepiece_pieces()) bytes += piece_field(piece, score--, 1);
  bytes += options.more_pieces;
  bytes += bytes_field(2, number_field(3, options.model_type) + number_field(35, options.falls_back_to_bytes) +
                              number_field(40, 0) + number_field(41, 1) + number_field(42, 2) + number_field(43, -1));
  return bytes + bytes_field(3, bytes_field(1, "identity") + bytes_field(2, options.charsmap) +
                                    number_field(3, options.adds_prefix) + number_field(4, options.removes_spaces) +
                                    number_field(5, 1));
}

// As transformers 4 reads it: the normalizer_spec decides.
Tokenizer older(const std::string& bytes, const char* config = "") {
  return Tokenizer::from_texts({.sentencepiece_model = bytes, .tokenizer_config = config},
                               TokenizerBehavior::kTransformers4);
}

std::string error_of(const std::string& bytes) {
  return refusal_of<DataError>([&] { Tokenizer::from_sentencepiece(bytes); });
}

TEST(SentencePieceModel, ReadsPiecesAndSpecs) {
  const SentencePieceModel model = parse_sentencepiece_model(model_bytes());
  ASSERT_EQ(model.pieces.size(), 259 + sentencepiece_pieces().size());
  EXPECT_EQ(model.pieces[1].text, "<s>");
  EXPECT_EQ(model.pieces[1].type, PieceType::kControl);
  EXPECT_EQ(model.pieces[260].score, -1.0f);
  EXPECT_TRUE(model.falls_back_to_bytes);
  EXPECT_FALSE(model.removes_extra_whitespaces);
  EXPECT_EQ(model.bos_id, 1);
  EXPECT_EQ(model.unknown_id, 0);
}

TEST(SentencePieceModel, MatchesItsTokenizerJson) {
  const Tokenizer model = older(model_bytes());
  const Tokenizer json = Tokenizer::from_json(llama_fixture().dump());
  std::mt19937 random(30);
  for (int i = 0; i < 2000; ++i) {
    std::string text = random_text(random);
    if (i % 10 == 0) text += "</s> hello\u2581ab<s>";
    const Ids ids = model.encode(text);
    ASSERT_EQ(ids, json.encode(text)) << text;
    ASSERT_EQ(model.decode(ids), json.decode(ids)) << text;
  }
  EXPECT_EQ(model.bos_id(), 1);
  EXPECT_EQ(model.eos_token(), "</s>");
  EXPECT_EQ(model.pad_id(), std::nullopt);
  EXPECT_TRUE(model.is_special(0));
}

TEST(SentencePieceModel, HighestScoreMergesFirst) {
  // "abc" may become "ab"+"c" or "a"+"bc": scores decide, not the order of pieces.
  for (const float score : {-50.0f, 50.0f}) {
    ModelOptions options;
    options.more_pieces = piece_field("c", -100, 1) + piece_field("bc", score, 1);
    const Ids ids = older(model_bytes(options)).encode("abc", false);
    const bool bc_first = score > 0;
    EXPECT_EQ(ids, bc_first ? (Ids{265, 278}) : (Ids{267, 277}));
  }
}

TEST(SentencePieceModel, UserDefinedPiecesAreCutOutButNotSpecial) {
  ModelOptions options;
  options.more_pieces = piece_field("<ud>", 0, 4) + piece_field("<ctl>", 0, 3);
  const Tokenizer tokenizer = older(model_bytes(options));
  EXPECT_EQ(tokenizer.encode("<ud><ctl>", false), (Ids{277, 278}));
  EXPECT_FALSE(tokenizer.is_special(277));
  EXPECT_TRUE(tokenizer.is_special(278));
  const Ids ids = tokenizer.encode(MarkedText{"<ud><ctl>", {{0, 9}}}, false);
  EXPECT_EQ(ids.front(), 277);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 278), 0);
}

TEST(SentencePieceModel, TreatsSpacesByItsSpec) {
  ModelOptions options;
  options.adds_prefix = false;
  EXPECT_EQ(older(model_bytes(options)).encode("a", false), Ids{273});
  options = {};
  options.removes_spaces = true;
  const Tokenizer tokenizer = older(model_bytes(options));
  EXPECT_EQ(tokenizer.encode("  hello   hello ", false), (Ids{263, 263}));
}

TEST(SentencePieceModel, ConfigDecidesBosEosAndLegacy) {
  const auto encode = [](const char* config, const char* text) { return older(model_bytes(), config).encode(text); };
  EXPECT_EQ(encode("", "a"), (Ids{1, 265}));
  EXPECT_EQ(encode(R"({"add_bos_token": false, "add_eos_token": true})", "a"), (Ids{265, 2}));
  EXPECT_EQ(encode(R"({"legacy": true})", "a</s>a"), (Ids{1, 265, 2, 265}));
  EXPECT_EQ(encode(R"({"legacy": false})", "a</s>a"), (Ids{1, 265, 2, 273})) << "a space at the start only";
}

TEST(SentencePieceModel, IsReadAsItsClassInTransformers5) {
  const auto encode = [](const Json& config, const char* model_type, const char* text) {
    return Tokenizer::from_texts({.sentencepiece_model = model_bytes(),
                                  .tokenizer_config = config.dump(),
                                  .model_config = Json{{"model_type", model_type}}.dump()})
        .encode(text);
  };
  const Json llama = {{"tokenizer_class", "LlamaTokenizer"}};
  Json legacy = llama, with_bos = llama;
  legacy["legacy"] = true;
  with_bos["add_bos_token"] = true;
  EXPECT_EQ(encode(llama, "llama", "a</s>a"), (Ids{265, 2, 273})) << "no BOS unless the config asks for it";
  EXPECT_EQ(encode(legacy, "llama", "a</s>a"), (Ids{265, 2, 265}));
  EXPECT_EQ(encode(with_bos, "llama", "a"), (Ids{1, 265}));
  EXPECT_EQ(encode(with_bos, "mistral", "a a"), (Ids{1, 273, 265})) << "without a class no space is put first";
  EXPECT_EQ(encode(Json::object(), "llama", "</s>a"), (Ids{2, 273}));
}

TEST(SentencePieceModel, LowestIdMergesFirstInTransformers5) {
  ModelOptions options;
  options.more_pieces = piece_field("c", -100, 1) + piece_field("bc", 50, 1);
  EXPECT_EQ(Tokenizer::from_sentencepiece(model_bytes(options)).encode("abc"), (Ids{266, 277}));
}

TEST(SentencePieceModel, AnyTruncationIsAnError) {
  const std::string bytes = model_bytes();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(Tokenizer::from_sentencepiece(std::string_view(bytes).substr(0, size)), DataError) << size;
  }
}

TEST(SentencePieceModel, DamagedBytesLoadOrAreDataErrors) {
  const std::string bytes = model_bytes();
  std::mt19937 random(31);
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = bytes;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      // Half of the damage is near the end, where the specs are.
      const size_t at = random() % 2 == 0 ? random() % bytes.size() : bytes.size() - 1 - random() % 60;
      damaged[at] = static_cast<char>(random());
    }
    try {
      const Tokenizer tokenizer = Tokenizer::from_sentencepiece(damaged);
      tokenizer.decode(tokenizer.encode("hello </s>é¢"));
    } catch (const DataError&) {
    }
  }
}

TEST(SentencePieceModel, RefusesOtherKindsAndBadPieces) {
  ModelOptions options;
  options.model_type = 1;
  EXPECT_NE(error_of(model_bytes(options)).find("UNIGRAM"), std::string::npos);
  options = {};
  options.charsmap = "map";
  EXPECT_NE(error_of(model_bytes(options)).find("identity"), std::string::npos);
  const auto refuses = [](const std::string& piece, const char* reason) {
    ModelOptions with_piece;
    with_piece.more_pieces = piece;
    const std::string error = error_of(model_bytes(with_piece));
    EXPECT_NE(error.find(reason), std::string::npos) << error;
  };
  refuses(piece_field("ab", 0, 1), "two ids");
  refuses(piece_field("x", 0, 5), "unused");
  refuses(piece_field("x", 0, 9), "piece type");
  refuses(piece_field("", 0, 1), "text");
  refuses(piece_field("\xff", 0, 1), "UTF-8");
  refuses(piece_field("x", std::numeric_limits<float>::quiet_NaN(), 1), "score");
  refuses(piece_field(std::string(5000, 'x'), 0, 1), "5000 bytes");
  EXPECT_NE(error_of("{\"model\": 1}"), kAccepted);
  EXPECT_NE(error_of(std::string(20, '\xff')), kAccepted);
}

}  // namespace
}  // namespace plumb
