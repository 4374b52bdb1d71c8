// The tokenizer of a Hugging Face model directory: which of its files count, and the tokenizer that they make.
// Source: the file names of transformers' PreTrainedTokenizerBase.
#pragma once

#include <string>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// tokenizer.json, else tokenizer.model; with it tokenizer_config.json, special_tokens_map.json for tokens that it does
/// not name, and chat_template.jinja, which goes before the template in it. Throws InputOutputError where there is no
/// tokenizer, DataError naming the directory.
Tokenizer load_tokenizer(const std::string& model_directory);

/// Paths of the files that load_tokenizer() reads there. Throws InputOutputError where there is no tokenizer.
std::vector<std::string> tokenizer_files(const std::string& model_directory);

}  // namespace plumb
