#include "io/gguf/gguf_tokenizer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_set>

#include "io/gguf/gguf_words.hpp"
#include "lib/base/check.hpp"
#include "lib/base/utf8.hpp"

namespace plumb {

namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

enum class TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Token {
  std::string text;
  TokenType type = TokenType::kNormal;
};

/// The texts that end generation in llama.cpp, whichever ids the metadata names.
constexpr auto kKnownEnds =
    std::to_array<std::string_view>({"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
                                     "<|eom_id|>", "<EOT>", "<|end_of_text|>"});

/// Added tokens that models use for control without saying so, which llama.cpp's converter also takes as control
/// tokens.
bool looks_like_control(std::string_view text) {
  return text == "<pad>" || text == "<mask>" || text == "<2mass>" || text == "[@BOS@]" ||
         (text.starts_with("<|") && text.ends_with("|>")) || (text.starts_with("<｜") && text.ends_with("｜>")) ||
         (text.starts_with("<unused") && text.ends_with(">"));
}

std::string byte_piece(int byte) { return fmt::format("<0x{:02X}>", byte); }

bool is_byte_piece(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">") &&
         text.substr(3, 2).find_first_not_of("0123456789ABCDEF") == std::string_view::npos;
}

std::string with_spaces(std::string text) {
  for (size_t at = 0; (at = text.find(kSpaceMark, at)) != std::string::npos;) text.replace(at, kSpaceMark.size(), " ");
  return text;
}

Token added_token(const AddedToken& added, const TokenizerParts& parts, bool is_sentencepiece) {
  if (is_sentencepiece && parts.bpe.unknown_token == added.content) return {added.content, TokenType::kUnknown};
  if (added.is_special || looks_like_control(added.content)) return {added.content, TokenType::kControl};
  return {with_spaces(added.content), TokenType::kUserDefined};
}

Token token_at(int32_t id, const TokenizerParts& parts, bool is_sentencepiece) {
  if (const AddedToken* added = parts.added.find(id)) return added_token(*added, parts, is_sentencepiece);
  if (!parts.vocabulary.contains(id)) return {fmt::format("[PAD{}]", id), TokenType::kUnused};
  const std::string_view text = parts.vocabulary.token(id);
  return {std::string(text), is_sentencepiece && is_byte_piece(text) ? TokenType::kByte : TokenType::kNormal};
}

/// llama.cpp finds tokens by their text, so that no two may be alike.
std::vector<Token> make_tokens(const TokenizerParts& parts, bool is_sentencepiece, int64_t vocab_size,
                               std::string_view where) {
  std::vector<Token> tokens;
  std::unordered_set<std::string> texts;
  for (int32_t id = 0; id < vocab_size; ++id) {
    Token token = token_at(id, parts, is_sentencepiece);
    while (token.type == TokenType::kUnused && (texts.contains(token.text) || find_token(parts, token.text) >= 0))
      token.text += "_";
    if (!texts.insert(token.text).second)
      throw_error<DataError>("{}: GGUF: expected tokens that llama.cpp can tell apart, got '{}' again with the id {}",
                             where, token.text, id);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

void add_tokens(const std::vector<Token>& tokens, GgufMetadata& metadata) {
  std::vector<std::string> texts;
  std::vector<int32_t> types;
  for (const Token& token : tokens) {
    texts.push_back(token.text);
    types.push_back(static_cast<int32_t>(token.type));
  }
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(texts));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(types));
}

/// "left right", by rank. Byte-level text has no spaces, so a merge with one merges nothing.
std::vector<std::string> merge_texts(const TokenizerParts& parts) {
  std::vector<std::string> texts;
  for (const Merge& merge : parts.merges) {
    const std::string_view left = parts.vocabulary.token(merge.left), right = parts.vocabulary.token(merge.right);
    if (left.find(' ') == std::string_view::npos && right.find(' ') == std::string_view::npos)
      texts.push_back(fmt::format("{} {}", left, right));
  }
  return texts;
}

/// llama.cpp merges to the token of the highest score, so a token's score falls with the rank of its first merge.
std::vector<float> scores(const TokenizerParts& parts, int64_t vocab_size) {
  std::vector<float> scores(vocab_size, 0.0f);
  for (auto merge = parts.merges.rbegin(); merge != parts.merges.rend(); ++merge)
    if (merge->result < vocab_size) scores[merge->result] = -static_cast<float>(merge->rank);
  return scores;
}

/// Tokens that are made of two others in a way that no merge has: llama.cpp makes them nevertheless.
int64_t count_missing_merges(const TokenizerParts& parts) {
  const MergeTable merges(parts.merges);
  int64_t num_missing = 0;
  for (int32_t id = 0; id < parts.vocabulary.size(); ++id) {
    const std::string_view text = parts.vocabulary.token(id);
    if (parts.added.find(id) != nullptr || is_byte_piece(text)) continue;
    for (size_t at = 0; at < text.size(); at += code_point_at(text, at).size_bytes) {
      const int32_t left = at == 0 ? -1 : parts.vocabulary.find(text.substr(0, at));
      const int32_t right = left < 0 ? -1 : parts.vocabulary.find(text.substr(at));
      if (right >= 0 && merges.find(left, right) == nullptr) ++num_missing;
    }
  }
  return num_missing;
}

/// Tokens of the vocabulary that their own text does not become by merges.
int64_t count_unmerged(const TokenizerParts& parts) {
  BpeOptions options = parts.bpe;
  options.ignores_merges = false;
  const Bpe bpe(parts.vocabulary, parts.merges, options);
  int64_t num_unmerged = 0;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < parts.vocabulary.size(); ++id) {
    if (!parts.vocabulary.contains(id) || parts.added.find(id) != nullptr) continue;
    ids.clear();
    bpe.encode(parts.vocabulary.token(id), ids);
    if (ids != std::vector<int32_t>{id}) ++num_unmerged;
  }
  return num_unmerged;
}

void add_ends(const TokenizerReading& reading, const std::vector<int32_t>& end_ids, const std::vector<Token>& tokens,
              GgufTokenizer& result) {
  std::vector<int32_t> ends;
  const auto add = [&](int32_t id) {
    if (id < std::ssize(tokens) && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  if (const auto eos = role_id(reading.parts, reading.config, "eos_token")) add(*eos);
  for (const int32_t id : end_ids) add(id);
  const auto is_known = [&](int32_t id) {
    return id != ends.front() && std::find(kKnownEnds.begin(), kKnownEnds.end(), tokens[id].text) != kKnownEnds.end();
  };
  std::erase_if(ends, is_known);
  size_t next = 0;
  for (const char* key : {"eos", "eot", "eom"})
    if (next < ends.size())
      result.metadata.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", key), static_cast<uint32_t>(ends[next++]));
  for (; next < ends.size(); ++next)
    result.notes.push_back(fmt::format("llama.cpp does not end texts at '{}'", tokens[ends[next]].text));
}

void add_roles(const TokenizerReading& reading, int64_t vocab_size, GgufMetadata& metadata) {
  constexpr std::pair<const char*, const char*> kRoles[] = {{"bos_token", "bos"},
                                                            {"unk_token", "unknown"},
                                                            {"sep_token", "seperator"},
                                                            {"pad_token", "padding"},
                                                            {"mask_token", "mask"}};
  for (const auto& [role, key] : kRoles)
    if (const auto id = role_id(reading.parts, reading.config, role); id && *id < vocab_size)
      metadata.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", key), static_cast<uint32_t>(*id));
}

/// BOS before and EOS after a text; llama.cpp can put no other tokens there.
void add_frame(const TokenizerReading& reading, GgufTokenizer& result) {
  const Frame frame = reading.parts.frame.value_or(Frame());
  const auto adds = [&](const std::vector<int32_t>& ids, const char* role, const char* key) {
    const auto id = role_id(reading.parts, reading.config, role);
    const bool is_role = id && ids == std::vector<int32_t>{*id};
    result.metadata.emplace_back(fmt::format("tokenizer.ggml.{}", key), is_role);
    if (!is_role && !ids.empty())
      result.notes.push_back(
          fmt::format("llama.cpp can put only its {} around a text, not the {} tokens of the "
                      "post_processor; the chat template may have them",
                      role, ids.size()));
  };
  adds(frame.prefix, "bos_token", "add_bos_token");
  adds(frame.suffix, "eos_token", "add_eos_token");
}

void add_notes(const TokenizerParts& parts, const GgufWords& words, int64_t vocab_size,
               std::vector<std::string>& notes) {
  if (!words.note.empty()) notes.emplace_back(words.note);
  const bool is_sentencepiece = words.model == "llama";
  if (is_sentencepiece) {
    if (const int64_t count = count_missing_merges(parts); count > 0)
      notes.push_back(fmt::format("llama.cpp merges {} pairs of tokens that the merges do not have", count));
  } else if (words.ignores_merges != parts.bpe.ignores_merges) {
    if (const int64_t count = count_unmerged(parts); count > 0)
      notes.push_back(fmt::format("llama.cpp makes other tokens of {} words, as its '{}' {} ignore_merges", count,
                                  words.pre, words.ignores_merges ? "has" : "has no"));
  }
  int64_t num_strict = 0, num_beyond = 0;
  for (const auto& [id, token] : parts.added.by_id()) {
    num_strict += token.strips_left || token.strips_right || token.is_single_word;
    num_beyond += id >= vocab_size;
  }
  for (int64_t id = vocab_size; id < parts.vocabulary.size(); ++id)
    num_beyond += parts.added.find(static_cast<int32_t>(id)) == nullptr;
  if (num_strict > 0)
    notes.push_back(
        fmt::format("llama.cpp knows no lstrip, rstrip and single_word, which {} added tokens have", num_strict));
  if (num_beyond > 0)
    notes.push_back(
        fmt::format("{} tokens are left out, as the model has no rows for ids from {}", num_beyond, vocab_size));
}

void check_byte_pieces(const TokenizerParts& parts, std::string_view where) {
  for (int byte = 0; byte < 256; ++byte)
    if (parts.vocabulary.find(byte_piece(byte)) < 0)
      throw_error<DataError>("{}: GGUF: expected the tokens <0x00> to <0xFF>, which llama.cpp needs, got no {}", where,
                             byte_piece(byte));
}

}  // namespace

GgufTokenizer gguf_tokenizer(const TokenizerReading& reading, const std::vector<int32_t>& end_ids, int64_t vocab_size,
                             std::string_view where) {
  const TokenizerParts& parts = reading.parts;
  const GgufWords words = find_gguf_words(parts, where);
  const bool is_sentencepiece = words.model == "llama";
  if (is_sentencepiece) check_byte_pieces(parts, where);
  const std::vector<Token> tokens = make_tokens(parts, is_sentencepiece, vocab_size, where);

  GgufTokenizer result;
  GgufMetadata& metadata = result.metadata;
  metadata.emplace_back("tokenizer.ggml.model", std::string(words.model));
  metadata.emplace_back("tokenizer.ggml.pre", std::string(words.pre));
  add_tokens(tokens, metadata);
  if (is_sentencepiece) {
    metadata.emplace_back("tokenizer.ggml.scores", scores(parts, vocab_size));
  } else {
    metadata.emplace_back("tokenizer.ggml.merges", merge_texts(parts));
  }
  add_ends(reading, end_ids, tokens, result);
  add_roles(reading, vocab_size, metadata);
  add_frame(reading, result);
  metadata.emplace_back("tokenizer.ggml.add_space_prefix", words.puts_space_first);
  if (!reading.config.chat_template.empty())
    metadata.emplace_back("tokenizer.chat_template", reading.config.chat_template);
  if (!reading.config.tool_template.empty()) {
    metadata.emplace_back("tokenizer.chat_templates", std::vector<std::string>{"tool_use"});
    metadata.emplace_back("tokenizer.chat_template.tool_use", reading.config.tool_template);
  }
  add_notes(parts, words, vocab_size, result.notes);
  return result;
}

}  // namespace plumb
