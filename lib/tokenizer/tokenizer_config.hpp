// What tokenizer_config.json says about a tokenizer: which tokens play which part, and the chat template.
// Source: huggingface/transformers, PreTrainedTokenizerBase.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/added_tokens.hpp"

namespace plumb {

struct AddedTokenWithId {
  int32_t id = 0;
  AddedToken token;
};

struct TokenizerConfig {
  std::optional<AddedToken> bos, eos, pad, unknown;
  std::vector<AddedToken> additional_special;
  std::vector<AddedTokenWithId> added;  // added_tokens_decoder
  std::optional<bool> adds_bos, adds_eos;
  bool is_legacy = true;  // of tokenizer.model: a space goes before text behind control tokens, too
  std::string chat_template;
};

/// "" is a config that says nothing. Throws DataError on malformed contents; keys it does not know are left alone.
TokenizerConfig parse_tokenizer_config(std::string_view text);

}  // namespace plumb
