// Reads the cells of a row by the roles of its format (text, numbers, what templates see) and renders its turns.
// Source: the dataset formats of TRL.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "lib/text/chat_template.hpp"
#include "lib/text/row_format.hpp"
#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {

// `where` begins every message. These throw DataError if a required column is missing or a cell has the wrong type.

/// Rows give these to a template; its options have other names.
constexpr std::array<const char*, 4> kTemplateVariables = {"messages", "tools", "documents", "add_generation_prompt"};

/// Null if the row has no cell for the role, or null in it.
const nlohmann::ordered_json* find_cell(const nlohmann::ordered_json& row, const RowFormat& format, const char* role);
const nlohmann::ordered_json& cell_of(const nlohmann::ordered_json& row, const RowFormat& format, const char* role,
                                      std::string_view where);
const std::string& text_cell(const nlohmann::ordered_json& row, const RowFormat& format, const char* role,
                             std::string_view where);
/// Empty if the column is absent or null.
std::string optional_text_cell(const nlohmann::ordered_json& row, const RowFormat& format, const char* role,
                               std::string_view where);
/// A finite number, or text that spells one, as in CSV cells.
double number_cell(const nlohmann::ordered_json& row, const RowFormat& format, const char* role,
                   std::string_view where);
/// The variables of the template that the row has beside its messages: tools and chat_template_kwargs.
TemplateInputs template_inputs(const nlohmann::ordered_json& row, const RowFormat& format, std::string_view where);

/// Throws DataError unless the row is an object of text alone, without images and the like.
void check_row(const nlohmann::ordered_json& row, const RowFormat& format, std::string_view where);

/// Marks the whole text as user text unless `parses_special_tokens`.
MarkedText plain_text(std::string text, bool parses_special_tokens);

/// Throws DataError beginning with `where` if the template refuses the conversation.
RenderedChat render_messages(const ChatTemplate& chat, std::span<const Message> messages, bool adds_generation_prompt,
                             const TemplateInputs& inputs, bool parses_special_tokens, std::string_view where);

}  // namespace plumb
