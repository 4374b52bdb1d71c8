// Loads the tokenizer of a Hugging Face model directory and decides which of its files count.
// Source: the file names of transformers' PreTrainedTokenizerBase.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Where the tokenizer and the chat template of a model come from, and how they are read.
struct TokenizerSource {
  std::string model;           // directory
  std::string adapter = {};    // directory whose own tokenizer or template precedes that of the model; "": none
  std::string eos_token = {};  // "": the tokenizer's own
  TokenizerBehavior behavior = TokenizerBehavior::kTransformers5;
};

/// Loads tokenizer.json, else tokenizer.model, together with tokenizer_config.json, special_tokens_map.json,
/// added_tokens.json, chat_template.jinja, additional_chat_templates/tool_use.jinja and config.json, as
/// lib/tokenizer/tokenizer_class.hpp describes. Logs once where transformers 4 and 5 read the directory differently.
/// Throws InputOutputError if there is no tokenizer; DataError names the directory; UsageError for an eos_token that is
/// in no vocabulary.
Tokenizer load_tokenizer(const TokenizerSource& source);
Tokenizer load_tokenizer(const std::string& model_directory);

/// The paths of the tokenizer's files: those that load_tokenizer() reads, without config.json and
/// additional_chat_templates/. Throws InputOutputError if there is no tokenizer.
std::vector<std::string> tokenizer_files(const TokenizerSource& source);
std::vector<std::string> tokenizer_files(const std::string& model_directory);

/// The path of one of the files that describe text, also those that load_tokenizer() does not read. Of an adapter's
/// directory with a vocabulary of its own, no file of the model's is used but generation_config.json.
std::optional<std::string> find_text_file(const TokenizerSource& source, const char* name);

/// tokenizer_config.json or special_tokens_map.json with this EOS. The one before stays a control token.
void replace_eos_token(nlohmann::json& config, const std::string& eos_token);

/// True if the adapter's directory has a tokenizer or a template that is not the model's.
bool has_other_tokenizer(const TokenizerSource& source);

}  // namespace plumb
