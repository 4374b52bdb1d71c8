// Mistral's Tekken tokenizers were published with a wrong expression for words. Transformers 5 puts the right one in
// place if tokenizer_config.json has `fix_mistral_regex: true`, the vocabulary has more than 100000 tokens, and
// config.json is of a Mistral type and written by transformers 4. Source: huggingface/transformers 5.23,
// TokenizersBackend._patch_mistral_regex.
#pragma once

#include "lib/tokenizer/tokenizer_config.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

/// Changes the pre-tokenizer under the above conditions.
void fix_mistral_words(const TokenizerTexts& texts, const TokenizerConfig& config, TokenizerParts& parts);

}  // namespace plumb
