// Finds the bytes of a text that each of its tokens stands for, so that a mask can be given by bytes.
// Source: the offsets of huggingface/tokenizers, as char_to_token() of transformers reads them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/tokenizer/marked_text.hpp"

namespace plumb {

/// A token as a text spells it.
struct TokenText {
  std::string text;
  bool is_added = false;  // a control token; one that the text does not spell was added around it
};

/// The bytes that an entry of a vocabulary stands for; the bytes of a character may be spread over several tokens.
std::string bytes_of_token(std::string_view token, bool is_byte_level);

/// The range of each token in `text`, ascending. A token that is not spelled there has an empty one. None if a
/// normalizer rewrote the text so that tokens and text differ by more than white space.
std::optional<std::vector<ByteRange>> find_token_ranges(std::span<const TokenText> tokens, std::string_view text);

/// The index of the token that holds the byte at `at`: the first that ends after it, else the number of tokens.
size_t token_at(std::span<const ByteRange> ranges, size_t at);

}  // namespace plumb
