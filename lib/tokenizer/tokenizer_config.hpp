// Parses tokenizer_config.json: the roles of tokens, and the chat template.
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
  bool is_legacy = true;  // tokenizer.model only: text after control tokens also gets a leading space
  std::string chat_template;
};

/// "" means an empty config. Throws DataError for malformed contents; ignores keys that it does not use.
TokenizerConfig parse_tokenizer_config(std::string_view text);

}  // namespace plumb
