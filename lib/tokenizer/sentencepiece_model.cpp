#include "lib/tokenizer/sentencepiece_model.hpp"

#include <bit>
#include <cmath>

#include "lib/base/check.hpp"
#include "lib/base/json_fields.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr std::string_view kFile = "tokenizer.model";

// Reads the fields of one protobuf message; nested messages are bytes for another reader.
class WireReader {
 public:
  enum Type : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  WireReader(std::string_view bytes, size_t offset) : bytes_(bytes), offset_(offset) {}

  // False at the end; otherwise sets the number, type and value of the field.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t key = varint();
    number_ = key >> 3;
    type_ = static_cast<uint32_t>(key & 7);
    if (number_ == 0) fail("a field number", "0");
    switch (type_) {
      case kVarint:
        value_ = varint();
        break;
      case kFixed64:
        fixed(8);
        break;
      case kFixed32:
        fixed(4);
        break;
      case kBytes: {
        const uint64_t size = varint();
        if (size > bytes_.size() - at_)
          fail(fmt::format("{} more bytes", size), fmt::format("{}", bytes_.size() - at_));
        payload_ = bytes_.substr(at_, size);
        payload_at_ = at_;
        at_ += size;
        break;
      }
      default:
        fail("a wire type of 0, 1, 2 or 5", fmt::format("{}", type_));
    }
    return true;
  }

  uint64_t number() const { return number_; }
  bool boolean() const { return expect(kVarint), value_ != 0; }
  int32_t integer() const { return expect(kVarint), static_cast<int32_t>(value_); }
  float real() const { return expect(kFixed32), std::bit_cast<float>(static_cast<uint32_t>(value_)); }
  std::string_view text() const { return expect(kBytes), payload_; }
  WireReader message() const { return expect(kBytes), WireReader(payload_, offset_ + payload_at_); }

  [[noreturn]] void fail(std::string_view expected, std::string_view got) const {
    throw_error<DataError>("{}: byte {}: expected {}, got {}; is the file truncated or not a SentencePiece model?",
                           kFile, offset_ + at_, expected, got);
  }

 private:
  void expect(uint32_t type) const {
    if (type_ != type) fail(fmt::format("wire type {} for field {}", type, number_), fmt::format("{}", type_));
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("the rest of a number", "the end");
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail("a number of at most 10 bytes", "a longer one");
  }

  void fixed(size_t size) {
    if (size > bytes_.size() - at_) fail(fmt::format("{} more bytes", size), fmt::format("{}", bytes_.size() - at_));
    value_ = 0;
    for (size_t i = 0; i < size; ++i) value_ |= uint64_t{static_cast<unsigned char>(bytes_[at_ + i])} << (8 * i);
    at_ += size;
  }

  std::string_view bytes_;
  size_t offset_;  // offset of bytes_ in the file
  size_t at_ = 0;
  uint64_t number_ = 0, value_ = 0;
  uint32_t type_ = 0;
  std::string_view payload_;
  size_t payload_at_ = 0;
};

SentencePiece parse_piece(WireReader reader, size_t id) {
  SentencePiece piece;
  while (reader.next()) {
    if (reader.number() == 1) piece.text = reader.text();
    if (reader.number() == 2) piece.score = reader.real();
    if (reader.number() == 3) {
      const int32_t type = reader.integer();
      if (type < 1 || type > 6) reader.fail("a piece type from 1 to 6", fmt::format("{}", type));
      piece.type = static_cast<PieceType>(type);
    }
  }
  if (piece.text.empty()) reader.fail(fmt::format("a text for piece {}", id), "none");
  if (find_invalid_utf8(piece.text) != std::string_view::npos) reader.fail("a piece in UTF-8", "other bytes");
  if (!std::isfinite(piece.score)) reader.fail("a finite score", fmt::format("{}", piece.score));
  if (piece.type == PieceType::kUnused) {
    throw_error<DataError>("{}: piece {} '{}' is marked unused; such pieces are not supported", kFile, id, piece.text);
  }
  return piece;
}

void parse_trainer(WireReader reader, SentencePieceModel& model) {
  constexpr int32_t kBpe = 2;
  int32_t type = 1, unknown = 0, bos = 1, eos = 2;
  bool has_suffix_whitespace = false;
  while (reader.next()) {
    switch (reader.number()) {
      case 3:
        type = reader.integer();
        break;
      case 24:
        has_suffix_whitespace = reader.boolean();
        break;
      case 35:
        model.falls_back_to_bytes = reader.boolean();
        break;
      case 40:
        unknown = reader.integer();
        break;
      case 41:
        bos = reader.integer();
        break;
      case 42:
        eos = reader.integer();
        break;
      default:
        break;
    }
  }
  if (type != kBpe) {
    throw_error<DataError>("{}: trainer_spec: model_type: expected BPE (2), the only supported one, got {}", kFile,
                           type == 1 ? "UNIGRAM (1)" : fmt::format("{}", type));
  }
  if (has_suffix_whitespace) {
    throw_error<DataError>("{}: trainer_spec: treat_whitespace_as_suffix is not supported", kFile);
  }
  const auto id_or_none = [](int32_t id) { return id < 0 ? std::nullopt : std::optional<int32_t>(id); };
  model.unknown_id = id_or_none(unknown);
  model.bos_id = id_or_none(bos);
  model.eos_id = id_or_none(eos);
}

void parse_normalizer_spec(WireReader reader, SentencePieceModel& model) {
  std::string name;
  bool has_charsmap = false;
  while (reader.next()) {
    switch (reader.number()) {
      case 1:
        name = reader.text();
        break;
      case 2:
        has_charsmap = !reader.text().empty();
        break;
      case 3:
        model.adds_dummy_prefix = reader.boolean();
        break;
      case 4:
        model.removes_extra_whitespaces = reader.boolean();
        break;
      case 5:
        model.escapes_whitespaces = reader.boolean();
        break;
      default:
        break;
    }
  }
  if (has_charsmap) {
    throw_error<DataError>(
        "{}: normalizer_spec: expected the identity, the only supported one, got '{}'; use the "
        "model's tokenizer.json",
        kFile, replace_invalid_utf8(name).substr(0, 64));
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes) {
  SentencePieceModel model;
  bool has_trainer = false, has_normalizer = false;
  WireReader reader(bytes, 0);
  while (reader.next()) {
    if (reader.number() == 1) {
      if (model.pieces.size() >= static_cast<size_t>(kMaxVocabSize)) {
        reader.fail(fmt::format("at most {} pieces", kMaxVocabSize), "more");
      }
      model.pieces.push_back(parse_piece(reader.message(), model.pieces.size()));
    } else if (reader.number() == 2) {
      parse_trainer(reader.message(), model);
      has_trainer = true;
    } else if (reader.number() == 3) {
      parse_normalizer_spec(reader.message(), model);
      has_normalizer = true;
    }
  }
  if (model.pieces.empty()) reader.fail("pieces", "none");
  if (!has_trainer) reader.fail("a trainer_spec", "none");
  if (!has_normalizer) reader.fail("a normalizer_spec", "none");
  return model;
}

}  // namespace plumb
