// Gives the tokenizer of a model directory further control tokens, such as those that begin and end a turn, so that a
// base model can be trained on conversations.
// Source: the tokenizer.json format of huggingface/tokenizers, and PreTrainedTokenizerBase.add_tokens of transformers.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace plumb {

struct NewToken {
  std::string text;
  int64_t id = 0;
  bool was_there = false;  // the tokenizer had it already
};

/// A control token as tokenizer.json and tokenizer_config.json describe it, but for its id.
nlohmann::json control_token(const std::string& text);

/// Rank 0 only: adds these to tokenizer.json and, where it lists added tokens, tokenizer_config.json of `directory`,
/// with the ids after the largest one. Throws UsageError for an empty text or one given twice; DataError for a
/// tokenizer without tokenizer.json, or in which a text is an ordinary token.
std::vector<NewToken> add_tokens(const std::string& directory, std::span<const std::string> texts);

}  // namespace plumb
