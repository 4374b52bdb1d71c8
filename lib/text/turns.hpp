// Reads the turns of a conversation from a cell of a row: messages of role and content, or ShareGPT's from and value.
// Source: the messages of transformers' chat templates; the formats of ShareGPT and LLaMA-Factory; the marks of turns
// of OpenAI and Mistral (weight), axolotl (train) and ms-swift (loss).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "lib/text/message.hpp"

namespace plumb {

/// A list of turns, or one turn. `where` names the cell and begins every message. Throws DataError for what is no turn,
/// for a role that no template knows, and for images and the like.
std::vector<Message> parse_turns(const nlohmann::ordered_json& cell, const std::string& where);

/// A list of pairs of a question and its answer, as Alpaca's `history` has them, or of turns.
std::vector<Message> parse_history(const nlohmann::ordered_json& cell, const std::string& where);

/// True for null, empty text or an empty structure: the padding in tables whose rows have different columns.
bool is_null_or_empty(const nlohmann::ordered_json& value);

/// The value that a text spells, or the value itself: tables have text for everything.
nlohmann::ordered_json parse_if_text(const nlohmann::ordered_json& value, const std::string& where);

}  // namespace plumb
