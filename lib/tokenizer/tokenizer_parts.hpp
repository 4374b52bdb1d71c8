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
};

/// Throws DataError for malformed or unsupported contents. Ignores `truncation` and `padding`, as transformers does.
TokenizerParts parse_tokenizer_json(std::string_view text);

/// Returns parts that behave as the tokenizer.json to which transformers converts this model. `config` supplies
/// `legacy`. If the config names no bos or eos token, the model's own are used.
TokenizerParts parse_sentencepiece(std::string_view bytes, TokenizerConfig& config);

/// Adds or replaces a token. Throws DataError with `where` if another token has the id or the content.
void add_token(TokenizerParts& parts, int32_t id, AddedToken token, std::string_view where);

/// The id of an added token or of a vocabulary entry, or -1.
int32_t find_token(const TokenizerParts& parts, std::string_view token);

}  // namespace plumb
