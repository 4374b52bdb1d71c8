// The fields of a SentencePiece model file that determine tokenization.
// Source: sentencepiece_model.proto of google/sentencepiece; protobuf wire format
// (protobuf.dev/programming-guides/encoding).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace plumb {

enum class PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};
struct SentencePieceModel {
  std::vector<SentencePiece> pieces;  // by id
  bool falls_back_to_bytes = false;
  bool adds_dummy_prefix = true;
  bool removes_extra_whitespaces = true;
  bool escapes_whitespaces = true;
  std::optional<int32_t> bos_id, eos_id, unknown_id;
};

/// Throws DataError on malformed bytes, and on models other than BPE with the identity normalization.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes);

}  // namespace plumb
