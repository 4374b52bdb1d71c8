// Loads the tokenizer of a Hugging Face model directory and decides which of its files count.
// Source: the file names of transformers' PreTrainedTokenizerBase.
#pragma once

#include <string>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Loads tokenizer.json, else tokenizer.model, together with tokenizer_config.json, special_tokens_map.json for tokens
/// that the former does not name, and chat_template.jinja, which takes precedence over the template in
/// tokenizer_config.json. Throws InputOutputError if there is no tokenizer; DataError names the directory.
Tokenizer load_tokenizer(const std::string& model_directory);

/// The paths of the files that load_tokenizer() reads. Throws InputOutputError if there is no tokenizer.
std::vector<std::string> tokenizer_files(const std::string& model_directory);

}  // namespace plumb
