// The cells of a row under the roles of its format: text, conversations, numbers; and how both become marked text.
// Source: the dataset formats of TRL; the conversations of ShareGPT.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/text/chat_template.hpp"
#include "lib/text/row_format.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

/// Null, or text or a structure without contents: what tables made of rows that differ are filled up with.
bool is_null_or_empty(const nlohmann::json& value);

// `where` begins every message; these throw DataError where a required column is missing or a cell has another type.

const nlohmann::json& cell_of(const nlohmann::json& row, const RowFormat& format, const char* role,
                              std::string_view where);
const std::string& text_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                             std::string_view where);
/// Empty for a column that is absent or null.
std::string optional_text_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                               std::string_view where);
/// A finite number, or text that spells one, as cells of tables do.
double number_cell(const nlohmann::json& row, const RowFormat& format, const char* role, std::string_view where);
/// Turns of role and content, or ShareGPT's from and value, under the roles system, user and assistant.
std::vector<Message> messages_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                                   std::string_view where);

/// Throws DataError unless the row is an object, and free of columns that a template would render and plumb does not.
void check_row(const nlohmann::json& row, const RowFormat& format, std::string_view where);

/// All of it the user's.
MarkedText plain_text(std::string text, bool parses_special_tokens);

/// Throws DataError beginning with `where` for what the template refuses.
MarkedText render_messages(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                           bool parses_special_tokens, std::string_view where);

/// Throws UsageError, naming templates, if there is none.
const ChatTemplate& required_template(const ChatTemplate* chat, std::string_view where);

}  // namespace plumb
