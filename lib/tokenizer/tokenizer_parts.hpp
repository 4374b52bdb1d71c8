// The parts of a tokenizer, and the parsers that make them from tokenizer.json and tokenizer.model.
// Source: tokenizer.json of huggingface/tokenizers; the conversion of Llama's tokenizer.model in
// huggingface/transformers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/added_tokens.hpp"
#include "lib/tokenizer/bpe.hpp"
#include "lib/tokenizer/decoder.hpp"
#include "lib/tokenizer/normalizer.hpp"
#include "lib/tokenizer/pre_tokenizer.hpp"
#include "lib/tokenizer/tokenizer_config.hpp"

namespace plumb {

/// The ids before and after every text.
struct Frame {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  bool operator==(const Frame&) const = default;
};

struct TokenizerParts {
  Vocabulary vocabulary;
  std::vector<Merge> merges;
  BpeOptions bpe;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::optional<std::vector<DecoderStep>> decoder;  // without one, tokens are joined by spaces
  std::optional<Frame> frame;                       // the ids that the post-processor adds, if any
  AddedTokens added;
  std::optional<std::string> padding_token;  // of tokenizer.json's `padding`
};

/// A directory's tokenizer, read by the rule of a behavior.
struct TokenizerReading {
  TokenizerParts parts;
  TokenizerConfig config;
  std::string differences;  // Tokenizer::differences()
};

/// Throws as Tokenizer::from_texts().
TokenizerReading read_tokenizer(const TokenizerTexts& texts, TokenizerBehavior behavior);

/// The id of the token with this role ("bos_token"), if there is one.
std::optional<int32_t> role_id(const TokenizerParts& parts, const TokenizerConfig& config, const char* role);

/// Throws DataError for malformed or unsupported contents. Ignores `truncation` and `padding`, as transformers does.
TokenizerParts parse_tokenizer_json(std::string_view text);

/// Returns parts that behave as the tokenizer.json to which transformers 4 converts this model: normalization as the
/// model's own normalizer_spec and `legacy` say. If the config names no bos or eos token, the model's own are used.
TokenizerParts parse_sentencepiece(std::string_view bytes, TokenizerConfig& config);

/// The same for transformers 5: each space becomes U+2581, none is put first, and merges are ordered by id. Control and
/// user-defined pieces are special unless the config lists special tokens. With `names_roles`, roles that the config
/// does not mention are the model's own.
TokenizerParts parse_plain_sentencepiece(std::string_view bytes, TokenizerConfig& config, bool names_roles);

/// Adds or replaces a token. Throws DataError with `where` if another token has the id or the content.
void add_token(TokenizerParts& parts, int32_t id, AddedToken token, std::string_view where);

/// Throws DataError with `where` if another token has the id or the content.
void check_token(const TokenizerParts& parts, int32_t id, const AddedToken& token, std::string_view where);

/// The id of an added token or of a vocabulary entry, or -1.
int32_t find_token(const TokenizerParts& parts, std::string_view token);

}  // namespace plumb
