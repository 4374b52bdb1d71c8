// What a tokenizer is made of, and how tokenizer.json and tokenizer.model become it.
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

/// Ids around every text.
struct Frame {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

struct TokenizerParts {
  Vocabulary vocabulary;
  std::vector<Merge> merges;
  BpeOptions bpe;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::optional<std::vector<DecoderStep>> decoder;  // without one, tokens are joined by spaces
  std::optional<Frame> frame;                       // what the post-processor adds; nothing where there is none
  AddedTokens added;
};

/// Throws DataError on malformed or unsupported contents. `truncation` and `padding` are left to the caller, as
/// transformers does.
TokenizerParts parse_tokenizer_json(std::string_view text);

/// The parts that behave as the tokenizer.json which transformers converts this model to. `config` supplies `legacy`.
/// Where the config names no bos or eos token, the model's own are filled in.
TokenizerParts parse_sentencepiece(std::string_view bytes, TokenizerConfig& config);

/// Adds or replaces a token. Throws DataError naming `where` if the id or the content belongs to another token.
void add_token(TokenizerParts& parts, int32_t id, AddedToken token, std::string_view where);

/// The id of an added token or of one of the vocabulary, or -1.
int32_t find_token(const TokenizerParts& parts, std::string_view token);

}  // namespace plumb
