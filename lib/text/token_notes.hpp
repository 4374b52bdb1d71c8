// Oddities of the tokens of a row that is trained as it is.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

struct TokenNotes {
  std::string spelled_control_token;  // the first that the row's own text spells and that stays text; "" if none
  bool has_second_bos = false;        // the text begins with the BOS that the tokenizer puts before it
};

/// token_ids: what `text` was encoded to.
TokenNotes find_token_notes(const MarkedText& text, std::span<const int32_t> token_ids, const Tokenizer& tokenizer);

}  // namespace plumb
