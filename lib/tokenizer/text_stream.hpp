// The text of tokens as they come. A token may end within a character, and what it says may depend on the one before
// it, so every piece is decoded together with what stands before it. Source: the incremental decoding of
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
  /// `prompt`: the tokens before the first one. Control tokens are left out. Keeps a reference to the tokenizer.
  TextStream(const Tokenizer& tokenizer, std::span<const int32_t> prompt);

  /// The text that is complete with this token; may be empty.
  std::string push(int32_t token);

  /// What is left at the end: characters that no token finished, as U+FFFD.
  std::string pending() const;

 private:
  const Tokenizer& tokenizer_;
  std::vector<int32_t> token_ids_;
  size_t begin_ = 0;  // of what is decoded together
  size_t shown_ = 0;  // tokens before this one have been returned
};

}  // namespace plumb
