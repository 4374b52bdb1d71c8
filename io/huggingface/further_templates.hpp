// Chat templates beside the default one, which transformers calls by their names: files of additional_chat_templates/,
// or a list in tokenizer_config.json. They go with an export; plumb renders with the default one and, what has tools,
// with tool_use.
// Source: transformers, PreTrainedTokenizerBase.save_chat_templates.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "io/huggingface/tokenizer_files.hpp"

namespace plumb {

/// The path of the file of this template among those of the source; none if there is none.
std::optional<std::string> find_further_template(const TokenizerSource& source, const std::string& name);

/// Contents by file name.
using FurtherTemplates = std::map<std::string, std::string>;

/// Reads the source's files, and those that the list in `tokenizer_config` names, which is not read beside a
/// chat_template.jinja. Of an adapter's directory with text files of its own, none of the model's are used. Throws
/// InputOutputError; DataError for a name that is no file name.
FurtherTemplates read_further_templates(const TokenizerSource& source, const nlohmann::json& tokenizer_config);

/// Removes tool_use, which would render conversations with tools in place of a template that the user named; logs it.
void drop_tool_template(FurtherTemplates& templates);

/// Writes them into additional_chat_templates/ of the directory. Throws InputOutputError.
void write_further_templates(const FurtherTemplates& templates, const std::string& directory);

}  // namespace plumb
