#include <algorithm>

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

void check_size(size_t id, std::string_view text) {
  if (text.size() > kMaxPieceBytes)
    throw_error<DataError>("{}: piece {}: {} bytes long, at most {} are allowed", kFile, id, text.size(),
                           kMaxPieceBytes);
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
    check_size(static_cast<size_t>(id), text);
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

// As generate_merges() of transformers 5: by id, then by the length of the left part; pieces of any type merge.
std::vector<Merge> make_merges_by_id(const SentencePieceModel& model, const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  int32_t rank = 0;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const std::string_view text = model.pieces[i].text;
    check_size(i, text);
    for (size_t at = code_point_at(text, 0).size_bytes; at < text.size(); at += code_point_at(text, at).size_bytes) {
      const int32_t left = vocabulary.find(text.substr(0, at));
      const int32_t right = left < 0 ? -1 : vocabulary.find(text.substr(at));
      if (right >= 0) merges.push_back({left, right, static_cast<int32_t>(i), rank++});
    }
  }
  return merges;
}

void set_decoder(bool falls_back_to_bytes, bool strips_first_space, TokenizerParts& parts) {
  parts.decoder.emplace();
  parts.decoder->emplace_back(DecodeReplace{Pattern::literal(std::string(kSpaceMark), kFile), " "});
  if (falls_back_to_bytes) {
    parts.decoder->emplace_back(DecodeByteFallback{});
    parts.decoder->emplace_back(DecodeFuse{});
  }
  if (strips_first_space) parts.decoder->emplace_back(DecodeStrip{" ", 1, 0});
}

void add_vocabulary(const SentencePieceModel& model, TokenizerParts& parts) {
  for (size_t i = 0; i < model.pieces.size(); ++i)
    parts.vocabulary.add(model.pieces[i].text, static_cast<int32_t>(i), kFile);
}

AddedToken token_of(const SentencePiece& piece) {
  AddedToken token;
  token.content = piece.text;
  token.is_special = piece.type == PieceType::kControl || piece.type == PieceType::kUnknown;
  return token;
}

// Control pieces are special; user-defined pieces are cut out of text but are not special.
void add_pieces(const SentencePieceModel& model, TokenizerParts& parts) {
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    AddedToken token = token_of(model.pieces[i]);
    if (token.is_special || model.pieces[i].type == PieceType::kUserDefined)
      add_token(parts, static_cast<int32_t>(i), std::move(token), kFile);
  }
}

// "" if the model has no such token.
std::string piece_of(const SentencePieceModel& model, std::optional<int32_t> id, std::string_view role) {
  if (!id) return "";
  if (static_cast<size_t>(*id) >= model.pieces.size())
    throw_error<DataError>("{}: trainer_spec: {}: expected an id below {}, got {}", kFile, role, model.pieces.size(),
                           *id);
  return model.pieces[*id].text;
}

void name_role(std::string_view role, const std::string& content, TokenizerConfig& config) {
  if (!content.empty()) config.set_default(role, content);
}

}  // namespace

TokenizerParts parse_sentencepiece(std::string_view bytes, TokenizerConfig& config) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes);
  TokenizerParts parts;
  add_vocabulary(model, parts);
  add_pieces(model, parts);
  parts.merges = make_merges(model, parts.vocabulary);
  parts.bpe.falls_back_to_bytes = model.falls_back_to_bytes;
  parts.bpe.fuses_unknown = true;
  set_normalizer(model, config.legacy.value_or(true), parts);
  set_decoder(/*falls_back_to_bytes=*/true, model.adds_dummy_prefix, parts);
  if (const std::string unknown = piece_of(model, model.unknown_id, "unk_id"); !unknown.empty())
    parts.bpe.unknown_token = unknown;
  std::erase_if(config.named, [](const NamedToken& named) { return !named.token; });
  name_role("bos_token", piece_of(model, model.bos_id, "bos_id"), config);
  name_role("eos_token", piece_of(model, model.eos_id, "eos_id"), config);
  if (!config.adds_bos) config.adds_bos = config.find("bos_token") != nullptr;
  return parts;
}

TokenizerParts parse_plain_sentencepiece(std::string_view bytes, TokenizerConfig& config, bool names_roles) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes);
  TokenizerParts parts;
  add_vocabulary(model, parts);
  parts.merges = make_merges_by_id(model, parts.vocabulary);
  parts.bpe.falls_back_to_bytes = model.falls_back_to_bytes;
  parts.bpe.fuses_unknown = true;
  const std::string unknown = piece_of(model, model.unknown_id, "unk_id");
  if (!unknown.empty()) parts.bpe.unknown_token = unknown;
  parts.normalizer.emplace_back(ReplaceText{Pattern::literal(" ", kFile), std::string(kSpaceMark)});
  set_decoder(model.falls_back_to_bytes, /*strips_first_space=*/false, parts);
  if (names_roles) {
    name_role("bos_token", piece_of(model, model.bos_id, "bos_id"), config);
    name_role("eos_token", piece_of(model, model.eos_id, "eos_id"), config);
    name_role("unk_token", unknown, config);
  }
  if (config.extra_special) return parts;
  config.extra_special.emplace();
  for (const SentencePiece& piece : model.pieces)
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUserDefined)
      config.extra_special->push_back(token_of(piece));
  return parts;
}

}  // namespace plumb
