// A tokenizer as llama.cpp reads it: byte-level BPE ("gpt2"), whose words are found by one of the pre-tokenizers that
// llama.cpp knows by name, or BPE in the style of SentencePiece with byte fallback ("llama"), whose merges are scores
// of the tokens that they make. Source: llama-vocab.cpp of ggml-org/llama.cpp; the vocabularies of its
// convert_hf_to_gguf.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf/gguf_file.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

struct GgufTokenizer {
  GgufMetadata metadata;
  std::vector<std::string> notes;  // what llama.cpp does otherwise, a sentence each
};

/// end_ids: where generation ends, the most important first; the tokenizer's EOS precedes them. Ids up to vocab_size
/// that no token has become unused tokens; tokens beyond it are left out with a note. Throws DataError, beginning with
/// `where`, for a tokenizer that llama.cpp has no like of.
GgufTokenizer gguf_tokenizer(const TokenizerReading& reading, const std::vector<int32_t>& end_ids, int64_t vocab_size,
                             std::string_view where);

}  // namespace plumb
