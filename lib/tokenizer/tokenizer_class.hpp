// The rule by which transformers 5.23 reads a directory's tokenizer: the class, and the parts that a class rebuilds.
//
// The class. AutoTokenizer takes `tokenizer_class` of tokenizer_config.json, else of config.json, without its suffix
// "Fast"; where neither names one, the class registered for config.json's model_type. Then
//  - LlamaTokenizer with a tokenizer.json that mentions "ByteLevel" is no class (not for Mistral's types, which are
//    none anyway, nor for the types below whose named class is known to be wrong);
//  - a type registered as TokenizersBackend or MistralCommonBackend (Mistral, Mixtral, Phi-3, OLMo 2, Granite, GLM ...)
//    has no class, whatever is named;
//  - a type whose named class is known to be wrong (qwen2 and others) takes the registered class;
//  - `auto_map` (code of its own, which is not run) skips these three.
// Unlike transformers, a byte-level class leaves alone a tokenizer.json that mentions no "ByteLevel": it would find none
// of its words.
// A name that transformers does not know is no class.
//
// No class (TokenizersBackend): tokenizer.json as it is written. A tokenizer.model becomes BPE with every space
// replaced by U+2581 and none put first.
//
// A class with an __init__ of its own takes from tokenizer.json only the vocabulary, the merges, and the
// post-processor; it makes the model's settings, normalizer, pre-tokenizer and decoder itself, and has defaults for
// roles. Its added tokens are those of tokenizer_config.json's added_tokens_decoder; tokenizer.json's, if there is
// none.
//
// Tokens around a text are those of tokenizer.json's post-processor, also where that is null: add_bos_token and
// add_eos_token count only without tokenizer.json. CodeLlamaTokenizer always puts BOS first, GPTNeoXTokenizer nothing.
//
// Added are, in this order: tokens of added_tokens_decoder, tokens with a role, extra_special_tokens (or, with
// tokenizer.model, its control and user-defined pieces). A token that is in no vocabulary gets the next free id.
//
// Source: huggingface/transformers 5.23: models/auto/tokenization_auto.py, tokenization_utils_tokenizers.py,
// tokenization_utils_base.py, convert_slow_tokenizer.py, and tokenization_*.py of the classes.
#pragma once

#include <string>
#include <string_view>

#include "lib/tokenizer/tokenizer_config.hpp"
#include "lib/tokenizer/tokenizer_parts.hpp"

namespace plumb {

/// The class that rebuilds this directory's tokenizer; "": none does. Throws DataError for a class that rebuilds it in
/// a way that is not supported.
std::string choose_tokenizer_class(const TokenizerTexts& texts, const TokenizerConfig& config);

/// Puts what the class makes in place of what the files say. `parts` has vocabulary and merges; `config` gets the
/// defaults of the class.
void rebuild_as(std::string_view tokenizer_class, TokenizerConfig& config, TokenizerParts& parts);

/// Adds the tokens that the files name. Throws DataError if they contradict each other.
void add_named_tokens(std::string_view tokenizer_class, const TokenizerConfig& config, TokenizerParts& parts);

}  // namespace plumb
