// Chat templates beside the default one, which transformers calls by their names: files of additional_chat_templates/,
// or a list in tokenizer_config.json. They go with an export; plumb renders with the default one.
// Source: transformers, PreTrainedTokenizerBase.save_chat_templates.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/huggingface/tokenizer_files.hpp"

namespace plumb {

/// Writes them as files into `directory`: those of the source, and those that the list in `tokenizer_config` names,
/// which is not read beside a chat_template.jinja. Of an adapter's directory with text files of its own, none of the
/// model's are used. Throws InputOutputError; DataError for a name that is no file name.
void write_further_templates(const TokenizerSource& source, const nlohmann::json& tokenizer_config,
                             const std::string& directory);

}  // namespace plumb
