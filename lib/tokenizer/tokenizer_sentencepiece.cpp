#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"
#include "lib/tokenizer/sentencepiece_model.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

namespace {

constexpr std::string_view kFile = "tokenizer.model";
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr size_t kMaxPieceBytes = 1024;

bool can_merge(const SentencePiece& piece) {
  return piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
}

// Two pieces merge if their concatenation is a piece. Merges are ordered by the score of the result.
std::vector<Merge> make_merges(const SentencePieceModel& model, const Vocabulary& vocabulary) {
  const std::vector<SentencePiece>& pieces = model.pieces;
  std::vector<int32_t> by_score;
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (pieces[id].type == PieceType::kNormal) by_score.push_back(static_cast<int32_t>(id));
  }
  const auto score = [&](int32_t id) { return pieces[id].score; };
  std::stable_sort(by_score.begin(), by_score.end(), [&](int32_t a, int32_t b) { return score(a) > score(b); });
  const auto half = [&](std::string_view text) {
    const int32_t id = vocabulary.find(text);
    return id >= 0 && can_merge(pieces[id]) ? id : -1;
  };
  std::vector<Merge> merges;
  int32_t rank = 0;
  for (const int32_t id : by_score) {
    const std::string_view text = pieces[id].text;
    if (text.size() > kMaxPieceBytes) {
      throw_error<DataError>("{}: piece {}: {} bytes long, at most {} are allowed", kFile, id, text.size(),
                             kMaxPieceBytes);
    }
    for (size_t at = code_point_at(text, 0).size_bytes; at < text.size(); at += code_point_at(text, at).size_bytes) {
      const int32_t left = half(text.substr(0, at));
      if (left < 0) continue;
      const int32_t right = half(text.substr(at));
      if (right >= 0) merges.push_back({left, right, id, rank});
    }
    ++rank;
  }
  return merges;
}

void set_normalizer(const SentencePieceModel& model, bool is_legacy, TokenizerParts& parts) {
  const auto replace = [&](std::string_view expression, std::string_view content) {
    parts.normalizer.emplace_back(ReplaceText{Pattern::regex(expression, kFile), std::string(content)});
  };
  if (model.removes_extra_whitespaces) {
    replace("\\A +| +\\z", "");
    replace(" {2,}", " ");
  }
  const std::string_view space = model.escapes_whitespaces ? kSpaceMark : std::string_view(" ");
  const bool prepends = model.adds_dummy_prefix && is_legacy;
  if (prepends) parts.normalizer.emplace_back(PrependText{std::string(space)});
  if (model.escapes_whitespaces) {
    parts.normalizer.emplace_back(ReplaceText{Pattern::literal(" ", kFile), std::string(kSpaceMark)});
  }
  if (model.adds_dummy_prefix && !is_legacy) {
    parts.pre_tokenizer.emplace_back(make_metaspace(std::string(space), PrependScheme::kFirst, false, kFile));
  }
}

void set_decoder(const SentencePieceModel& model, TokenizerParts& parts) {
  parts.decoder.emplace();
  parts.decoder->emplace_back(DecodeReplace{Pattern::literal(std::string(kSpaceMark), kFile), " "});
  parts.decoder->emplace_back(DecodeByteFallback{});
  parts.decoder->emplace_back(DecodeFuse{});
  if (model.adds_dummy_prefix) parts.decoder->emplace_back(DecodeStrip{" ", 1, 0});
}

// Control pieces are special; user-defined pieces are cut out of text but are not special.
void add_pieces(const SentencePieceModel& model, TokenizerParts& parts) {
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const SentencePiece& piece = model.pieces[i];
    const auto id = static_cast<int32_t>(i);
    parts.vocabulary.add(piece.text, id, kFile);
    const bool is_special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
    if (!is_special && piece.type != PieceType::kUserDefined) continue;
    AddedToken token;
    token.content = piece.text;
    token.is_special = is_special;
    add_token(parts, id, std::move(token), kFile);
  }
}

}  // namespace

TokenizerParts parse_sentencepiece(std::string_view bytes, TokenizerConfig& config) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes);
  TokenizerParts parts;
  add_pieces(model, parts);
  parts.merges = make_merges(model, parts.vocabulary);
  parts.bpe.falls_back_to_bytes = model.falls_back_to_bytes;
  parts.bpe.fuses_unknown = true;
  set_normalizer(model, config.is_legacy, parts);
  set_decoder(model, parts);

  const auto piece_of = [&](std::optional<int32_t> id, std::string_view role) {
    std::optional<AddedToken> token;
    if (!id) return token;
    if (static_cast<size_t>(*id) >= model.pieces.size()) {
      throw_error<DataError>("{}: trainer_spec: {}: expected an id below {}, got {}", kFile, role, model.pieces.size(),
                             *id);
    }
    token.emplace();
    token->content = model.pieces[*id].text;
    token->is_special = true;
    return token;
  };
  if (const std::optional<AddedToken> unknown = piece_of(model.unknown_id, "unk_id")) {
    parts.bpe.unknown_token = unknown->content;
  }
  if (!config.bos) config.bos = piece_of(model.bos_id, "bos_id");
  if (!config.eos) config.eos = piece_of(model.eos_id, "eos_id");
  if (!config.adds_bos) config.adds_bos = config.bos.has_value();
  return parts;
}

}  // namespace plumb
