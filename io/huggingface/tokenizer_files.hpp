// Loads the tokenizer of a Hugging Face model directory and decides which of its files count.
// Source: the file names of transformers' PreTrainedTokenizerBase.
#pragma once

#include <string>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Loads tokenizer.json, else tokenizer.model, together with tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json, chat_template.jinja and config.json, as lib/tokenizer/tokenizer_class.hpp describes. Logs once
/// where transformers 4 and 5 read the directory differently. Throws InputOutputError if there is no tokenizer;
/// DataError names the directory.
Tokenizer load_tokenizer(const std::string& model_directory,
                         TokenizerBehavior behavior = TokenizerBehavior::kTransformers5);

/// The paths of the tokenizer's files: those that load_tokenizer() reads, without config.json. Throws InputOutputError
/// if there is no tokenizer.
std::vector<std::string> tokenizer_files(const std::string& model_directory);

}  // namespace plumb
