// Which tokenizer of llama.cpp divides text as a tokenizer.json does: its kind, and for byte-level BPE the name of the
// pre-tokenizer.
// Source: the pre-tokenizers of llama-vocab.cpp, each beside the tokenizer.json from which it was made.
#pragma once

#include <string_view>

#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

struct GgufWords {
  std::string_view model;  // tokenizer.ggml.model: "gpt2" or "llama"
  std::string_view pre;    // tokenizer.ggml.pre
  bool puts_space_first = false;
  bool ignores_merges = false;  // a word in the vocabulary is one token, whatever the merges make of it
  std::string_view note = {};   // what differs nevertheless; "": nothing
};

/// Throws DataError, beginning with `where`, if there is none.
GgufWords find_gguf_words(const TokenizerParts& parts, std::string_view where);

}  // namespace plumb
