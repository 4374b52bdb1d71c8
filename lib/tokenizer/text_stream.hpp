// Decodes tokens to text as they arrive. A token may end within a character, and its text may depend on the token
// before it, so every piece is decoded together with the tokens before it. Source: the incremental decoding of
// text-generation-inference.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

class TextStream {
 public:
  /// `prompt`: the tokens before the first one. Control tokens are omitted. Keeps a reference to the tokenizer.
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt);

  /// Returns the text that this token completes; may be empty.
  std::string push(int32_t token);

  /// Returns the rest at the end: characters that no token completed, as U+FFFD.
  std::string pending() const;

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> token_ids_;
  size_t begin_ = 0;  // first token of those decoded together
  size_t shown_ = 0;  // the text of the tokens before this one has been returned
};

}  // namespace plumb
