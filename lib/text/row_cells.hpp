// Reads the cells of a row by the roles of its format (text, conversations, numbers) and turns them into marked text.
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

/// Null, empty text or an empty structure: the padding in tables whose rows have different columns.
bool is_null_or_empty(const nlohmann::json& value);

// `where` begins every message. These throw DataError if a required column is missing or a cell has the wrong type.

const nlohmann::json& cell_of(const nlohmann::json& row, const RowFormat& format, const char* role,
                              std::string_view where);
const std::string& text_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                             std::string_view where);
/// Empty if the column is absent or null.
std::string optional_text_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                               std::string_view where);
/// A finite number, or text that spells one, as in CSV cells.
double number_cell(const nlohmann::json& row, const RowFormat& format, const char* role, std::string_view where);
/// Accepts role and content, or ShareGPT's from and value. The result has the roles system, user and assistant.
std::vector<Message> messages_cell(const nlohmann::json& row, const RowFormat& format, const char* role,
                                   std::string_view where);

/// Throws DataError unless the row is an object without columns that a template would render and plumb does not
/// support.
void check_row(const nlohmann::json& row, const RowFormat& format, std::string_view where);

/// Marks the whole text as user text unless `parses_special_tokens`.
MarkedText plain_text(std::string text, bool parses_special_tokens);

/// Throws DataError beginning with `where` if the template refuses the conversation.
MarkedText render_messages(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                           bool parses_special_tokens, std::string_view where);

/// Throws UsageError that lists templates if `chat` is null.
const ChatTemplate& required_template(const ChatTemplate* chat, std::string_view where);

}  // namespace plumb
